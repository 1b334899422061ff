// SPDX-License-Identifier: Apache-2.0
// What makes wires real. A wire has two ends; what they are decides what it is made of: two kernel interfaces on one
// machine are a veth pair, a kernel interface and a tunnel a VXLAN device in the workload's namespace.
//
// Desired state: plug() says what a wire shall be and may be repeated; unplug() says it shall not be. What exists is
// read back by the marks that every object bears. Real life: KernelPlane. The simulator: sim::FakeKernel.
// Single-threaded to its callers; slow work happens elsewhere.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/async.h"
#include "mesh/core/api.h"
#include "rpc/descriptor.h"
#include "wire/address.h"

namespace forwarder {

// Whose interface it is: src_* of the connection's context belongs to the client, dst_* to the endpoint.
enum class Side { client, endpoint };

// An interface in a workload's network namespace.
struct KernelEnd {
  KernelEnd(rpc::Descriptor n, std::string i) : netns(std::move(n)), interface(std::move(i)) {}
  rpc::Descriptor netns;
  std::string interface;
};

// One side of a VXLAN tunnel over the underlay.
struct VxlanEnd {
  wire::IpAddress local;
  wire::IpAddress remote;
  std::uint16_t port = 4789;
  std::uint32_t vni = 0;
  auto operator<=>(const VxlanEnd&) const = default;
};

using WireEnd = std::variant<KernelEnd, VxlanEnd>;

struct WireSpec {
  WireSpec(std::string i, WireEnd c, WireEnd e) : id(std::move(i)), client(std::move(c)), endpoint(std::move(e)) {}
  std::string id;  // of the connection at this forwarder
  WireEnd client;
  WireEnd endpoint;
  std::string payload;                           // IP or ETHERNET
  connectioncontext::ConnectionContext context;  // addresses, routes, rules, neighbours, MTU, MAC
};

// Packets and bytes at one end, from the forwarder's point of view: rx came from the workload.
struct EndCounters {
  std::uint64_t rx_packets = 0;
  std::uint64_t rx_bytes = 0;
  std::uint64_t tx_packets = 0;
  std::uint64_t tx_bytes = 0;
  std::uint64_t drops = 0;
};

// Where tunnels start on this node.
struct Underlay {
  wire::IpAddress address;
  std::uint32_t mtu = 1500;  // of the device that owns the address
};

class Plane {
 public:
  virtual ~Plane() = default;

  // The wire exists as described when this returns; what already matches is not touched. On failure nothing new of it
  // remains. Errors: already_exists for a VNI that another tunnel of this node uses, unimplemented for a pair of ends
  // this plane cannot join, not_found for a namespace that is gone.
  virtual base::Task<base::Result<void>> plug(WireSpec wire) = 0;

  // The wire is gone, its interface names free. Repeating it, or a wire that never was, is a success.
  virtual base::Task<base::Result<void>> unplug(std::string id) = 0;

  // Ids of all wires that bear this forwarder's mark, also those of its earlier lives.
  virtual base::Task<base::Result<std::vector<std::string>>> plugged() = 0;

  // Counters of the workload's interface at that side; zero where the end is a tunnel.
  virtual base::Task<base::Result<EndCounters>> counters(std::string id, Side side) = 0;
};

}  // namespace forwarder
