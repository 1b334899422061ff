// SPDX-License-Identifier: Apache-2.0
#include "lab/observe.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

namespace lab {
namespace {

using base::Code;
using base::fail;
using base::Result;
using nlohmann::json;

constexpr std::uint16_t kIperfPort = 5201;

// Parses a tool's JSON and hands it to the reader, whose complaints about its shape become an error.
template <typename T>
Result<T> read_json(std::string_view text, std::string_view source, Result<T> (*read)(const json& value)) {
  // `ip -j` prints nothing at all when there is nothing to show.
  const bool blank = text.find_first_not_of(" \n") == std::string_view::npos;
  try {
    return read(blank ? json::array() : json::parse(text));
  } catch (const json::exception& problem) {
    return fail(Code::internal, "{} printed unexpected JSON: {}", source, problem.what());
  }
}

Result<std::vector<LinkView>> read_links(const json& value) {
  std::vector<LinkView> links;
  for (const auto& entry : value) {
    if (!entry.is_object() || !entry.contains("ifname")) continue;  // `ip -j` writes {} for what its filter leaves out
    LinkView link;
    link.name = entry.value("ifname", "");
    link.index = entry.value("ifindex", 0);
    link.peer_index = entry.value("link_index", 0);
    link.peer_elsewhere = entry.contains("link_netnsid");
    link.mtu = entry.value("mtu", 0U);
    if (entry.contains("linkinfo")) link.kind = entry["linkinfo"].value("info_kind", "");
    const auto flags = entry.value("flags", json::array());
    link.up = std::ranges::find(flags, json("UP")) != flags.end();
    for (const auto& address : entry.value("addr_info", json::array())) {
      if (address.value("scope", "") == "link" || !address.contains("local")) continue;
      link.addresses.insert(fmt::format("{}/{}", address.value("local", ""), address.value("prefixlen", 0)));
    }
    if (entry.contains("stats64")) {
      link.received_packets = entry["stats64"]["rx"].value("packets", std::uint64_t{0});
      link.sent_packets = entry["stats64"]["tx"].value("packets", std::uint64_t{0});
    }
    links.push_back(std::move(link));
  }
  return links;
}

Result<std::set<std::string>> read_destinations(const json& value) {
  std::set<std::string> destinations;
  for (const auto& route : value) destinations.insert(route.at("dst").get<std::string>());
  return destinations;
}

Result<double> read_mbps(const json& value) {
  if (value.is_object() && value.contains("error")) {
    return fail(Code::unavailable, "iperf3: {}", value["error"].get<std::string>());
  }
  return value.at(json::json_pointer("/end/sum_received/bits_per_second")).get<double>() / 1e6;
}

using UnderlayCounts = std::map<std::string, UnderlayCount>;
Result<UnderlayCounts> read_counters(const json& value) {
  UnderlayCounts counts;
  for (const auto& entry : value.at("nftables")) {
    if (!entry.contains("counter")) continue;
    const auto name = entry["counter"].at("name").get<std::string>();
    const auto packets = entry["counter"].at("packets").get<std::uint64_t>();
    const auto cut = name.find('_');
    if (cut == std::string::npos) continue;
    auto& count = counts[name.substr(cut + 1)];
    if (name.starts_with("tunnel_")) count.tunnel = packets;
    if (name.starts_with("udp_")) count.udp = packets;
    if (name.starts_with("echo_")) count.echo = packets;
  }
  if (counts.empty()) return fail(Code::internal, "the underlay has no counters");
  return counts;
}

std::uint32_t header_bytes(const std::string& address) {
  constexpr std::uint32_t kIcmp = 8;
  return (address.find(':') == std::string::npos ? 20 : 40) + kIcmp;
}

}  // namespace

Result<std::vector<LinkView>> parse_links(std::string_view text) { return read_json(text, "ip address", &read_links); }

Result<std::vector<LinkView>> links_in(const std::filesystem::path& netns) {
  auto text = output_of({"ip", "-j", "-d", "-s", "address", "show"}, netns);
  if (!text) return std::unexpected(text.error());
  return parse_links(*text);
}

std::optional<LinkView> find_link(const std::vector<LinkView>& links, std::string_view name) {
  const auto found = std::ranges::find(links, name, &LinkView::name);
  return found == links.end() ? std::nullopt : std::optional(*found);
}

std::optional<LinkView> find_link_by_address(const std::vector<LinkView>& links, std::string_view address) {
  const auto found =
      std::ranges::find_if(links, [&](const LinkView& link) { return link.addresses.contains(std::string(address)); });
  return found == links.end() ? std::nullopt : std::optional(*found);
}

Result<std::set<std::string>> routes_through(const std::filesystem::path& netns, const std::string& link) {
  std::set<std::string> destinations;
  for (const char* family : {"-4", "-6"}) {
    auto text = output_of({"ip", "-j", family, "route", "show", "dev", link}, netns);
    if (!text) return std::unexpected(text.error());
    auto parsed = read_json(*text, "ip route", &read_destinations);
    if (!parsed) return std::unexpected(parsed.error());
    destinations.merge(*parsed);
  }
  return destinations;
}

Result<PingResult> parse_ping(std::string_view output) {
  static const std::regex counts(R"((\d+) packets transmitted, (\d+) received)");
  static const std::regex times(R"(rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/)");
  const std::string text(output);
  std::smatch match;
  if (!std::regex_search(text, match, counts)) {
    return fail(Code::internal, "ping printed no statistics: {}", text.substr(0, 200));
  }
  PingResult result{.sent = std::stoi(match[1]), .answered = std::stoi(match[2])};
  if (std::regex_search(text, match, times)) {
    result.min_ms = std::stod(match[1]);
    result.average_ms = std::stod(match[2]);
    result.max_ms = std::stod(match[3]);
  }
  return result;
}

Result<PingResult> ping(const std::filesystem::path& netns, const std::string& address, PingOptions options) {
  const auto payload = options.packet_bytes - std::min(options.packet_bytes, header_bytes(address));
  auto done = run_command({"ping", "-n", "-c", std::to_string(options.count), "-i", "0.2", "-W", "2", "-M", "do", "-s",
                           std::to_string(payload), address},
                          netns, in(seconds(20)));
  if (!done) return std::unexpected(done.error());
  if (done->out.find("packets transmitted") == std::string::npos) {
    return fail(Code::unavailable, "ping {}: {}", address, done->err.substr(0, done->err.find('\n')));
  }
  return parse_ping(done->out);
}

Result<double> parse_iperf_mbps(std::string_view text) { return read_json(text, "iperf3", &read_mbps); }

Result<double> throughput_mbps(const std::filesystem::path& from, const std::filesystem::path& to,
                               const std::string& address) {
  auto server = Process::start(
      {.name = "iperf3 server", .command = {"iperf3", "--server", "--one-off", "--bind", address}, .netns = to});
  if (!server) return std::unexpected(server.error());
  const Deadline listening = in(seconds(5));
  while (!listens(server->pid(), kIperfPort)) {
    if (!server->running() || !pause_until(listening, milliseconds(10))) {
      return fail(Code::unavailable, "the iperf3 server at {} does not listen: {}", address, server->state());
    }
  }
  auto done = run_command({"iperf3", "--client", address, "--time", "2", "--json", "--connect-timeout", "2000"}, from,
                          in(seconds(15)));
  server->stop(seconds(1));
  if (!done) return std::unexpected(done.error());
  return parse_iperf_mbps(done->out);
}

std::string counter_rules(const std::string& port) {
  return fmt::format(
      "add table netdev lab\n"
      "add counter netdev lab tunnel_{0}\n"
      "add counter netdev lab udp_{0}\n"
      "add counter netdev lab echo_{0}\n"
      "add chain netdev lab {0} {{ type filter hook ingress device \"{0}\" priority 0; }}\n"
      "add rule netdev lab {0} udp dport 4789 counter name tunnel_{0} accept\n"
      "add rule netdev lab {0} meta l4proto udp counter name udp_{0} accept\n"
      "add rule netdev lab {0} icmp type {{ echo-request, echo-reply }} counter name echo_{0} accept\n"
      "add rule netdev lab {0} icmpv6 type {{ echo-request, echo-reply }} counter name echo_{0} accept\n",
      port);
}

Result<UnderlayCounts> parse_counters(std::string_view text) { return read_json(text, "nft", &read_counters); }

Result<UnderlayCounts> underlay_counts(const std::filesystem::path& netns) {
  auto text = output_of({"nft", "-j", "list", "counters"}, netns);
  if (!text) return std::unexpected(text.error());
  return parse_counters(*text);
}

bool listens(pid_t pid, std::uint16_t port) {
  constexpr std::string_view kListening = "0A";
  for (const char* table : {"tcp", "tcp6"}) {
    std::istringstream lines(read_file(fmt::format("/proc/{}/net/{}", pid, table)));
    std::string line;
    while (std::getline(lines, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state;
      if (!(fields >> slot >> local >> remote >> state) || state != kListening) continue;
      if (local.ends_with(fmt::format(":{:04X}", port))) return true;
    }
  }
  return false;
}

}  // namespace lab
