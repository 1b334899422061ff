// SPDX-License-Identifier: Apache-2.0
// One behaviour of the mesh. See docs/adr/0003-chains.md for the shape; copy mesh/elements/mtu to make the next one.
//
// An element's contract comment says: what it changes in the request, what it keeps per connection, what must come
// before it, what it undoes on failure, what a repeated request does. Runs on one scheduler's thread; many calls are in
// it at once, but one at a time for each connection (begin sees to that).
#pragma once

#include <string_view>

#include "base/task.h"
#include "mesh/core/call.h"

namespace mesh {

// A list of types, for Element's Needs and Gives.
template <typename... T>
struct Types {};

class Element {
 public:
  // What must stand above the element in its chain, and what it provides to those below: tag types, checked when the
  // chain is built. Redeclare in the element.
  using Needs = Types<>;
  using Gives = Types<>;

  virtual ~Element() = default;

  virtual base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) {
    return call.next(std::move(request));
  }
  virtual base::Task<base::Result<void>> close(Call& call, Connection connection) {
    return call.next_close(std::move(connection));
  }
};

// The tags.
struct Identified {};  // the connection's id and index are this process's own
struct Serialised {};  // one call at a time per connection; ConnectionState is there
struct NextHop;        // where the call goes on to (elements/connect/next_hop.h)

}  // namespace mesh
