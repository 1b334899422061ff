// SPDX-License-Identifier: Apache-2.0
#include "forwarder/interface_config.h"

#include "kernel/policy.h"
#include "kernel/route.h"

namespace forwarder {

using base::Result;

namespace {

template <typename Texts>
Result<std::vector<wire::Prefix>> prefixes(const Texts& texts) {
  std::vector<wire::Prefix> parsed;
  for (const std::string& text : texts) {
    auto prefix = wire::Prefix::parse_or_host(text);
    if (!prefix) return std::unexpected(prefix.error());
    parsed.push_back(*prefix);
  }
  return parsed;
}

template <typename Routes>
Result<std::vector<kernel::Route>> routes(const Routes& texts) {
  std::vector<kernel::Route> parsed;
  for (const auto& text : texts) {
    auto destination = wire::Prefix::parse_or_host(text.prefix());
    if (!destination) return std::unexpected(destination.error());
    kernel::Route route{*destination, std::nullopt};
    if (!text.nexthop().empty()) {
      auto next_hop = wire::IpAddress::parse(text.nexthop());
      if (!next_hop) return std::unexpected(next_hop.error());
      route.next_hop = *next_hop;
    }
    parsed.push_back(route);
  }
  return parsed;
}

Result<kernel::Policy> policy(const connectioncontext::PolicyRoute& text) {
  kernel::Policy parsed;
  if (!text.from().empty()) {
    auto from = wire::Prefix::parse_or_host(text.from());
    if (!from) return std::unexpected(from.error());
    parsed.from = *from;
  }
  if (!text.proto().empty()) {
    auto protocol = kernel::parse_ip_protocol(text.proto());
    if (!protocol) return std::unexpected(protocol.error());
    parsed.protocol = *protocol;
  }
  for (const auto& [range, target] :
       {std::pair(&text.dst_port(), &parsed.destination_port), std::pair(&text.src_port(), &parsed.source_port)}) {
    if (range->empty()) continue;
    auto ports = kernel::PortRange::parse(*range);
    if (!ports) return std::unexpected(ports.error());
    *target = *ports;
  }
  auto through = routes(text.routes());
  if (!through) return std::unexpected(through.error());
  parsed.routes = std::move(*through);
  return parsed;
}

}  // namespace

Result<kernel::InterfaceConfig> interface_config(const connectioncontext::ConnectionContext& context, Side side) {
  const auto& ip = context.ip_context();
  const bool client = side == Side::client;
  kernel::InterfaceConfig config;

  auto addresses = prefixes(client ? ip.src_ip_addrs() : ip.dst_ip_addrs());
  if (!addresses) return std::unexpected(addresses.error());
  config.addresses = std::move(*addresses);
  auto peers = prefixes(client ? ip.dst_ip_addrs() : ip.src_ip_addrs());
  if (!peers) return std::unexpected(peers.error());
  config.peers = std::move(*peers);
  auto through = routes(client ? ip.src_routes() : ip.dst_routes());
  if (!through) return std::unexpected(through.error());
  config.routes = std::move(*through);

  if (client) {
    for (const auto& text : ip.policies()) {
      auto parsed = policy(text);
      if (!parsed) return std::unexpected(parsed.error().wrap("policy route"));
      config.policies.push_back(std::move(*parsed));
    }
  }
  for (const auto& text : ip.ip_neighbors()) {
    auto address = wire::IpAddress::parse(text.ip());
    if (!address) return std::unexpected(address.error());
    auto mac = wire::MacAddress::parse(text.hardware_address());
    if (!mac) return std::unexpected(mac.error());
    config.neighbours.push_back({*address, *mac});
  }
  const std::string& mac = client ? context.ethernet_context().src_mac() : context.ethernet_context().dst_mac();
  if (!mac.empty()) {
    auto parsed = wire::MacAddress::parse(mac);
    if (!parsed) return std::unexpected(parsed.error());
    config.mac = *parsed;
  }
  config.mtu = context.mtu();
  return config;
}

}  // namespace forwarder
