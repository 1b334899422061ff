// SPDX-License-Identifier: Apache-2.0
// Gives each connection its addresses and host routes: ip_context's src and dst sides.
//
// Changes: ip_context, before the call goes on. Keeps: the connection's lease. After: begin. Failure: a new
// connection's addresses are free again; a repeated request's old ones stay its own. Repeated request: the same
// addresses, unless they have been excluded since. Close: free once everything below has let go of them.
#pragma once

#include "mesh/core/element.h"
#include "mesh/elements/ipam/point_to_point.h"

namespace mesh {

class Ipam final : public Element {
 public:
  using Needs = Types<Serialised>;

  explicit Ipam(PointToPointIpam addresses) : addresses_(std::move(addresses)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  PointToPointIpam addresses_;
};

}  // namespace mesh
