// SPDX-License-Identifier: Apache-2.0
// Network devices as the kernel reports them, and the marks by which ours are known again after a restart:
//   alias "patchbay:OWNER:CONNECTION"   who made it and for which connection
//   group kLiveGroup or kGraveGroup     set in the very request that makes the device, so a crash leaves none unmarked
//   protocol kRouteProtocol             on routes and rules
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernel/netlink.h"
#include "kernel/netns.h"
#include "wire/address.h"

namespace kernel {

constexpr std::uint32_t kLiveGroup = 0x70620001;   // "pb", 1
constexpr std::uint32_t kGraveGroup = 0x70620002;  // "pb", 2
constexpr std::uint8_t kRouteProtocol = 112;       // 'p'; not in iproute2's rt_protos

// Who made a device, and for what.
struct Mark {
  std::string owner;       // the forwarder's name; has no ':'
  std::string connection;  // any text

  std::string alias() const { return fmt::format("patchbay:{}:{}", owner, connection); }
  static std::optional<Mark> parse(std::string_view alias);
  base::Result<void> check() const;  // refuses what the kernel's 255 bytes cannot hold
  auto operator<=>(const Mark&) const = default;
};

struct LinkStatistics {
  std::uint64_t received_packets = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t received_dropped = 0;
  std::uint64_t sent_packets = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t sent_dropped = 0;
};

struct Link {
  struct Vxlan {
    std::uint32_t vni = 0;
    std::uint16_t port = 0;
    std::optional<wire::IpAddress> local;
    std::optional<wire::IpAddress> remote;
  };

  int index = 0;
  std::string name;
  std::string kind;  // "veth", "vxlan", ...; empty for hardware and loopback
  std::string alias;
  std::uint32_t flags = 0;  // IFF_...
  std::uint32_t mtu = 0;
  std::uint32_t group = 0;
  wire::MacAddress mac;
  int peer_index = 0;                      // a veth's other end, in its own namespace
  std::optional<std::int32_t> peer_netns;  // the number of that namespace; nothing if it is this one
  bool ipv6_disabled = false;
  std::optional<Vxlan> vxlan;
  LinkStatistics statistics;

  std::optional<Mark> mark() const { return Mark::parse(alias); }
  // Made by Patchbay: alive, or half made, or waiting to be deleted.
  bool is_ours() const { return mark() || group == kLiveGroup || group == kGraveGroup; }
};

// What Linux takes as a name: 1 to 15 bytes without '/', ':' or blanks; and not a name that sysctls use for all
// devices.
base::Result<void> check_interface_name(std::string_view name);

std::optional<Link> parse_link(const Object& object);
Message get_link(const std::string& name);

base::Result<std::optional<Link>> find_link(Netns& netns, const std::string& name);
base::Result<std::optional<Link>> find_link(Netns& netns, int index);
base::Result<std::vector<Link>> list_links(Netns& netns);

// Counters of a device that must exist.
base::Result<LinkStatistics> statistics(Netns& netns, const std::string& name);

}  // namespace kernel
