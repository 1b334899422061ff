// SPDX-License-Identifier: Apache-2.0
// Carries packets across this node: offers the next hop the mechanisms that can be joined to the one the previous hop
// chose, and plugs a wire between the two when the answer is there. Each neighbour sees only the mechanism it shares
// with this forwarder.
//
// After: mechanisms, and whatever sets NextHop. Keeps: both mechanisms and whether the wire is plugged. Failure to
// plug: what this call opened below is closed. Repeated request: the same mechanisms; plugging what is plugged changes
// nothing. Close: the wire goes first, so that no packet outlives the addresses that the endpoint frees; then the hops
// below.
#pragma once

#include "forwarder/plane.h"
#include "mesh/core/element.h"
#include "mesh/elements/connect/next_hop.h"

namespace forwarder {

struct CrossingOptions {
  Underlay underlay;
  std::uint16_t vxlan_port = 4789;
  bool allow_plaintext_ip = false;    // PATCHBAY_ALLOW_PLAINTEXT_IP
  std::vector<std::string> priority;  // NSM_MECHANISM_PRIORITY: types to offer first
};

class Crossing final : public mesh::Element {
 public:
  using Needs = mesh::Types<mesh::Serialised, mesh::NextHop>;

  Crossing(Plane& plane, CrossingOptions options) : plane_(plane), options_(std::move(options)) {}

  base::Task<base::Result<mesh::Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(mesh::Call& call, mesh::Connection connection) override;

 private:
  base::Result<std::vector<mesh::Mechanism>> offers(const mesh::NextHop& hop, const mesh::Connection& connection) const;
  base::Result<WireSpec> wire_of(mesh::Call& call, const mesh::Connection& answered,
                                 const mesh::Mechanism& server) const;

  Plane& plane_;
  const CrossingOptions options_;
};

}  // namespace forwarder
