// SPDX-License-Identifier: Apache-2.0
// Makes an interface of a connection what the connection's context says, and keeps it so: addresses, routes, policy
// routes, neighbours, MTU. Applying the same again changes nothing; applying something else removes what is no longer
// wanted, which is how a heal changes addresses. Blocking: call it on a worker thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "kernel/link.h"
#include "kernel/netns.h"
#include "kernel/policy.h"
#include "kernel/route.h"
#include "wire/address.h"

namespace kernel {

struct Neighbour {
  wire::IpAddress address{};
  wire::MacAddress mac{};
  auto operator<=>(const Neighbour&) const = default;
};

struct InterfaceConfig {
  std::vector<wire::Prefix> addresses{};
  std::vector<wire::Prefix> peers{};  // the far side's addresses: each gets a host route unless an address covers it
  std::vector<Route> routes{};
  std::vector<Policy> policies{};
  std::vector<Neighbour> neighbours{};  // permanent, whatever protocol says
  std::optional<wire::MacAddress> mac{};
  std::uint32_t mtu = 0;  // 0: as it is
};

// A link that was made by the same call needs no look at what it has.
enum class LinkState { fresh, kept };

// Requires the link to be in the namespace. Sets it up, and lets every user of the namespace ping.
base::Result<void> apply(Netns& netns, const Link& link, const InterfaceConfig& config, LinkState state);

// Universe-scope addresses on the link, as the kernel has them.
base::Result<std::vector<wire::Prefix>> list_addresses(Netns& netns, int link);
base::Result<std::vector<Neighbour>> list_permanent_neighbours(Netns& netns, int link);

}  // namespace kernel
