// SPDX-License-Identifier: Apache-2.0
// What is really there: links, addresses, routes and counters as the kernel reports them, pings and throughput as the
// usual tools measure them. The parsers are apart from the commands, for the tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "lab/process.h"

namespace lab {

struct LinkView {
  std::string name;
  std::string kind;  // veth, vxlan, tun, …; empty for loopback and hardware
  int index = 0;
  int peer_index = 0;           // of a veth's other end, in its own namespace; 0: none
  bool peer_elsewhere = false;  // the other end is in another namespace
  bool up = false;
  std::uint32_t mtu = 0;
  std::set<std::string> addresses{};  // with prefix length; without link-local ones
  std::uint64_t received_packets = 0;
  std::uint64_t sent_packets = 0;
};
base::Result<std::vector<LinkView>> parse_links(std::string_view json);
base::Result<std::vector<LinkView>> links_in(const std::filesystem::path& netns);
// The link that has this name, or this address.
std::optional<LinkView> find_link(const std::vector<LinkView>& links, std::string_view name);
std::optional<LinkView> find_link_by_address(const std::vector<LinkView>& links, std::string_view address);

// Destinations of the routes through a link, as `ip route` writes them: an address alone for one host.
base::Result<std::set<std::string>> routes_through(const std::filesystem::path& netns, const std::string& link);

struct PingResult {
  int sent = 0;
  int answered = 0;
  double min_ms = 0;
  double average_ms = 0;
  double max_ms = 0;
};
base::Result<PingResult> parse_ping(std::string_view output);
struct PingOptions {
  int count = 4;
  std::uint32_t packet_bytes = 84;  // of the whole IP packet; sent unfragmented
};
base::Result<PingResult> ping(const std::filesystem::path& netns, const std::string& address, PingOptions options);

base::Result<double> parse_iperf_mbps(std::string_view json);
// TCP from one namespace to an address in the other, for two seconds.
base::Result<double> throughput_mbps(const std::filesystem::path& from, const std::filesystem::path& to,
                                     const std::string& address);

// Packets counted where they enter the underlay, by what they are.
struct UnderlayCount {
  std::uint64_t tunnel = 0;  // UDP to the VXLAN port
  std::uint64_t udp = 0;     // all other UDP
  std::uint64_t echo = 0;    // pings in clear
  UnderlayCount operator-(const UnderlayCount& before) const {
    return {tunnel - before.tunnel, udp - before.udp, echo - before.echo};
  }
};
// The nft commands that make these counters on a port.
std::string counter_rules(const std::string& port);
// One count a port.
base::Result<std::map<std::string, UnderlayCount>> parse_counters(std::string_view json);
base::Result<std::map<std::string, UnderlayCount>> underlay_counts(const std::filesystem::path& netns);

// Whether some process in the namespace listens on the TCP port.
bool listens(pid_t pid, std::uint16_t port);

}  // namespace lab
