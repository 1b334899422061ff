// SPDX-License-Identifier: Apache-2.0
// The server's side of agreeing on a mechanism. Holds one element for each type it offers, ordered by name; the call
// goes through the one that serves, as if that stood here in the chain: its call.next() is what stands below.
//
// Changes: connection.mechanism, to the first of the client's preferences that works, tried in the client's order, each
// on a copy of the request. A connection that names a mechanism gets that or an error. After: begin. Keeps: the type in
// use. Failure: each element undoes its own, then the next preference is tried; nothing is undone here. Repeated
// request: the same element; if the request changes the type, the connection is first closed through the old one.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mesh/core/element.h"

namespace mesh {

class Mechanisms final : public Element {
 public:
  using Needs = Types<Serialised>;
  using Offers = std::map<std::string, std::shared_ptr<Element>, std::less<>>;

  explicit Mechanisms(Offers offers) : offers_(std::move(offers)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  Element* offer(const std::string& type) const;
  std::string offered() const;
  base::Task<base::Result<Connection>> attempt(Call& call, NetworkServiceRequest request);

  const Offers offers_;
};

}  // namespace mesh
