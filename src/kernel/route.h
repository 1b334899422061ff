// SPDX-License-Identifier: Apache-2.0
// Routes as wished for and as the kernel holds them. Ours bear kRouteProtocol and die with their interface.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernel/netlink.h"
#include "kernel/netns.h"
#include "wire/address.h"

namespace kernel {

// Without a next hop: the first peer of the family, unless a peer's prefix covers the destination.
struct Route {
  wire::Prefix destination{};
  std::optional<wire::IpAddress> next_hop{};
  auto operator<=>(const Route&) const = default;
};

struct KernelRoute {
  wire::Prefix destination{};  // host bits zero
  std::optional<wire::IpAddress> gateway{};
  std::uint32_t table = RT_TABLE_MAIN;
  int link = 0;
  std::uint8_t protocol = RTPROT_UNSPEC;
  std::uint32_t metric = 0;
};

// What the wish means on a link whose far side has these addresses.
KernelRoute resolve(const Route& route, std::span<const wire::Prefix> peers, int link, std::uint32_t table);

// Makes the route or takes the place of one with the same destination and table. Next hops need not be on-link.
Message replace_route(const KernelRoute& route);
Message delete_route(const KernelRoute& route);

// Both families, all tables but the kernel's own (local addresses, broadcast).
base::Result<std::vector<KernelRoute>> list_routes(Netns& netns);

}  // namespace kernel
