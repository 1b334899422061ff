// SPDX-License-Identifier: Apache-2.0
// Gives the connection this process's own place on its path: segment, index and id; restores the caller's on the way
// back. First in every chain. Keeps nothing. Undoes nothing. Repeated request: a caller that sends the whole path back
// finds its own segment here, and with it the id of the connection that exists: that is how a refresh is told from a
// new request.
#pragma once

#include "base/random.h"
#include "mesh/core/element.h"

namespace mesh {

class PathElement final : public Element {
 public:
  using Gives = Types<Identified>;

  // name: of this process on every path. The neighbours on a path must have other names.
  PathElement(std::string name, base::Random& random) : name_(std::move(name)), random_(random) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  // Rewrites the connection; returns the index to give back to the caller.
  base::Result<std::uint32_t> enter(Connection& connection);

  const std::string name_;
  base::Random& random_;
};

}  // namespace mesh
