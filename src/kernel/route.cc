// SPDX-License-Identifier: Apache-2.0
#include "kernel/route.h"

#include <algorithm>

#include "kernel/link.h"

namespace kernel {
namespace {

std::uint8_t linux_family(wire::Family family) { return family == wire::Family::v4 ? AF_INET : AF_INET6; }

Message route_message(std::uint16_t type, std::uint16_t flags, const KernelRoute& route) {
  rtmsg header{};
  header.rtm_family = linux_family(route.destination.family());
  header.rtm_dst_len = static_cast<unsigned char>(route.destination.length());
  header.rtm_table = route.table < 256 ? static_cast<unsigned char>(route.table) : 0;
  header.rtm_protocol = route.protocol;
  const bool adding = type == RTM_NEWROUTE;
  header.rtm_type = RTN_UNICAST;
  header.rtm_scope =
      route.gateway || route.destination.family() == wire::Family::v6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  if (!adding) header.rtm_scope = RT_SCOPE_NOWHERE;  // any
  if (adding && route.gateway) header.rtm_flags = RTNH_F_ONLINK;
  Message message(type, flags, header);
  message.put_address(RTA_DST, route.destination.address())
      .put(RTA_OIF, static_cast<std::uint32_t>(route.link))
      .put(RTA_TABLE, route.table);
  if (route.gateway) message.put_address(RTA_GATEWAY, *route.gateway);
  if (route.metric != 0) message.put(RTA_PRIORITY, route.metric);
  return message;
}

std::optional<KernelRoute> parse_route(const Object& object) {
  const auto* header = object.payload<rtmsg>();
  if (object.type() != RTM_NEWROUTE || header == nullptr || header->rtm_type != RTN_UNICAST) return std::nullopt;
  if ((header->rtm_flags & RTM_F_CLONED) != 0 || header->rtm_table == RT_TABLE_LOCAL) return std::nullopt;
  const auto attributes = object.attributes<RTA_MAX>(sizeof(rtmsg));
  const auto zero = header->rtm_family == AF_INET ? wire::IpAddress() : wire::IpAddress(wire::IpAddress::Bytes16{});
  const auto destination = address_of(attributes[RTA_DST]).value_or(zero);
  if (header->rtm_dst_len > destination.bits()) return std::nullopt;
  auto link = u32_of(attributes[RTA_OIF]);
  if (const auto* hops = attributes[RTA_MULTIPATH]; !link && hops != nullptr) {
    rtnexthop first{};  // one of several will do: it tells which way the route goes
    if (nla_len(hops) >= static_cast<int>(sizeof first)) std::memcpy(&first, nla_data(hops), sizeof first);
    link = static_cast<std::uint32_t>(first.rtnh_ifindex);
  }
  return KernelRoute{.destination = wire::Prefix(destination, header->rtm_dst_len),
                     .gateway = address_of(attributes[RTA_GATEWAY]),
                     .table = u32_of(attributes[RTA_TABLE]).value_or(header->rtm_table),
                     .link = static_cast<int>(link.value_or(0)),
                     .protocol = header->rtm_protocol,
                     .metric = u32_of(attributes[RTA_PRIORITY]).value_or(0)};
}

}  // namespace

KernelRoute resolve(const Route& route, std::span<const wire::Prefix> peers, int link, std::uint32_t table) {
  KernelRoute out{.destination = route.destination.network(),
                  .gateway = route.next_hop,
                  .table = table,
                  .link = link,
                  .protocol = kRouteProtocol};
  if (out.gateway) return out;
  const auto covers = [&out](const wire::Prefix& peer) { return peer.contains(out.destination); };
  if (std::ranges::any_of(peers, covers)) return out;
  const auto first = std::ranges::find(peers, out.destination.family(), &wire::Prefix::family);
  if (first != peers.end()) out.gateway = first->address();
  return out;
}

Message replace_route(const KernelRoute& route) {
  return route_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
}

Message delete_route(const KernelRoute& route) { return route_message(RTM_DELROUTE, 0, route); }

base::Result<std::vector<KernelRoute>> list_routes(Netns& netns) {
  std::vector<KernelRoute> out;
  for (const auto family : {AF_INET, AF_INET6}) {
    rtmsg header{};
    header.rtm_family = static_cast<unsigned char>(family);
    auto done = netns.route().dump(Message(RTM_GETROUTE, 0, header),
                                   fmt::format("{}: cannot list routes", netns.name()), [&out](const Object& object) {
                                     if (auto route = parse_route(object)) out.push_back(std::move(*route));
                                   });
    if (!done) return std::unexpected(done.error());
  }
  return out;
}

}  // namespace kernel
