// SPDX-License-Identifier: Apache-2.0
// Policy routes: a rule that sends matching traffic to a table of its own, and the table's routes. A rule of ours bears
// kRouteProtocol and belongs to the interface its table's routes go out of. Reference: ip-rule(8).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernel/netns.h"
#include "kernel/route.h"
#include "wire/address.h"

namespace kernel {

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  static base::Result<PortRange> parse(std::string_view text);  // "80" or "1000-2000"
  std::string to_string() const;
  auto operator<=>(const PortRange&) const = default;
};

// An IP protocol by number, or tcp, udp, icmp, ipv6-icmp, sctp.
base::Result<std::uint8_t> parse_ip_protocol(std::string_view text);

struct Policy {
  std::optional<wire::Prefix> from{};
  std::optional<std::uint8_t> protocol{};
  std::optional<PortRange> destination_port{};
  std::optional<PortRange> source_port{};
  std::vector<Route> routes{};  // none: a default route
};

struct KernelRule {
  wire::Family family = wire::Family::v4;
  std::optional<wire::Prefix> from{};
  std::optional<std::uint8_t> ip_protocol{};
  std::optional<PortRange> destination_port{};
  std::optional<PortRange> source_port{};
  std::uint32_t table = 0;
  std::uint32_t priority = 0;
  std::uint8_t protocol = 0;  // who made it

  bool same_selector(const KernelRule& other) const;
  std::string to_string() const;  // "from 10.0.0.1/32 ipproto 6 dport 80 lookup 1"
};

base::Result<std::vector<KernelRule>> list_rules(Netns& netns);
base::Result<void> delete_rule(Netns& netns, const KernelRule& rule);

// Makes the link's policies these: rules that are wanted and there keep their table, the others go, new ones take the
// lowest tables from 1 that no route and no rule uses. A policy without source address applies to the families of its
// routes, or of the interface if it has none.
base::Result<void> apply_policies(Netns& netns, int link, std::span<const Policy> policies,
                                  std::span<const wire::Prefix> peers);

// Deletes the rules that lead to the link, and those of ours that lead nowhere any more.
base::Result<void> remove_policies(Netns& netns, int link);

}  // namespace kernel
