// SPDX-License-Identifier: Apache-2.0
// The VXLAN mechanism towards a forwarder on another node: fills in this end of the tunnel, its VNI and the MTU that
// fits. After: mechanisms. Keeps the VNI until Close. First request that fails: the VNI is free again. Repeated
// request: the same VNI and addresses; they never change while the connection lives.
//
// Also carries IP payload, unencrypted, under a type name of our own (kPlainVxlan) that no foreign forwarder takes for
// a standard one; only where PATCHBAY_ALLOW_PLAINTEXT_IP allows it.
#pragma once

#include "forwarder/plane.h"
#include "forwarder/vni_allocator.h"
#include "mesh/core/element.h"

namespace forwarder {

inline constexpr std::string_view kPlainVxlan = "PATCHBAY_VXLAN_PLAINTEXT_IP";

// Outer IP, UDP, VXLAN and inner Ethernet headers, and room for an inner VLAN tag.
std::uint32_t vxlan_overhead(wire::Family underlay);
// The MTU of a tunnel over the underlay.
std::uint32_t vxlan_mtu(const Underlay& underlay);

// The tunnel a mechanism describes, seen from the named side. Errors name the parameter.
base::Result<VxlanEnd> vxlan_end(const mesh::Mechanism& mechanism, Side local_side);

class VxlanMechanism final : public mesh::Element {
 public:
  VxlanMechanism(VniAllocator& vnis, Underlay underlay, std::uint16_t port)
      : vnis_(vnis), underlay_(std::move(underlay)), port_(port) {}

  base::Task<base::Result<mesh::Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(mesh::Call& call, mesh::Connection connection) override;

 private:
  VniAllocator& vnis_;
  const Underlay underlay_;
  const std::uint16_t port_;
};

}  // namespace forwarder
