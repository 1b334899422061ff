// SPDX-License-Identifier: Apache-2.0
// Carries the call to the next process. After: whatever sets NextHop; descriptors. Keeps nothing itself; the files that
// mechanism parameters name go along, and those that come with the answer are held with the connection. The answer's id
// and index are this process's own, whatever the peer says; an answer without this process's path segment is undone.
// A request that changes its next hop closes the connection at the old one first. Close goes to the hop the connection
// was last at; when that cannot be reached the error is returned and the caller has still forgotten the connection.
#pragma once

#include "mesh/core/element.h"
#include "mesh/elements/connect/next_hop.h"

namespace mesh {

class Connect final : public Element {
 public:
  using Needs = Types<Serialised, NextHop>;

  explicit Connect(rpc::Transport& transport) : transport_(transport) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  rpc::Transport& transport_;
};

}  // namespace mesh
