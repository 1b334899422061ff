// SPDX-License-Identifier: Apache-2.0
#include "kernel/interface.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"

namespace kernel {
namespace {

constexpr std::uint32_t kMinIpv6Mtu = 1280;  // RFC 8200 5: below it Linux takes IPv6 off the interface

constexpr std::chrono::seconds kIpv6Patience{3};
// Usually the second look succeeds; on a busy machine it takes some milliseconds.
constexpr std::chrono::microseconds kFirstPause{50};
constexpr std::chrono::microseconds kLongestPause{2000};

std::uint8_t linux_family(wire::Family family) { return family == wire::Family::v4 ? AF_INET : AF_INET6; }

Message address_message(std::uint16_t type, std::uint16_t flags, int link, const wire::Prefix& prefix) {
  ifaddrmsg header{};
  header.ifa_family = linux_family(prefix.family());
  header.ifa_prefixlen = static_cast<std::uint8_t>(prefix.length());
  header.ifa_index = static_cast<std::uint32_t>(link);
  header.ifa_scope = RT_SCOPE_UNIVERSE;
  const bool v4 = prefix.family() == wire::Family::v4;
  if (!v4 && type == RTM_NEWADDR) header.ifa_flags = IFA_F_NODAD;
  Message message(type, flags, header);
  message.put_address(IFA_LOCAL, prefix.address()).put_address(IFA_ADDRESS, prefix.address());
  if (v4 && type == RTM_NEWADDR && prefix.length() < 31) message.put_address(IFA_BROADCAST, prefix.last());
  return message;
}

Message neighbour_message(std::uint16_t type, std::uint16_t flags, int link, const Neighbour& neighbour) {
  ndmsg header{};
  header.ndm_family = linux_family(neighbour.address.family());
  header.ndm_ifindex = link;
  header.ndm_state = NUD_PERMANENT;
  Message message(type, flags, header);
  message.put_address(NDA_DST, neighbour.address);
  if (type == RTM_NEWNEIGH) message.put_bytes(NDA_LLADDR, neighbour.mac.bytes());
  return message;
}

Message link_message(const Link& link, const InterfaceConfig& config) {
  ifinfomsg header{};
  header.ifi_index = link.index;
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  Message message(RTM_SETLINK, 0, header);
  if (config.mtu != 0 && config.mtu != link.mtu) message.put(IFLA_MTU, config.mtu);
  if (config.mac && *config.mac != link.mac) message.put_bytes(IFLA_ADDRESS, config.mac->bytes());
  return message;
}

std::vector<KernelRoute> wanted_routes(const Link& link, const InterfaceConfig& config) {
  std::vector<KernelRoute> out;
  const auto add = [&out](KernelRoute route) {
    const bool there =
        std::ranges::any_of(out, [&route](const auto& other) { return other.destination == route.destination; });
    if (!there) out.push_back(std::move(route));
  };
  for (const auto& peer : config.peers) {
    const auto covers = [&peer](const wire::Prefix& own) { return own.contains(peer.address()); };
    if (std::ranges::any_of(config.addresses, covers)) continue;
    add({.destination = wire::Prefix::host(peer.address()),
         .gateway = {},
         .link = link.index,
         .protocol = kRouteProtocol});
  }
  for (const auto& route : config.routes) add(resolve(route, config.peers, link.index, RT_TABLE_MAIN));
  return out;
}

bool has_ipv6(const InterfaceConfig& config) {
  const auto is_v6 = [](const auto& prefix) { return prefix.family() == wire::Family::v6; };
  return std::ranges::any_of(config.addresses, is_v6) || std::ranges::any_of(config.peers, is_v6);
}

base::Result<void> check(const Link& link, const InterfaceConfig& config) {
  if (config.mtu != 0 && config.mtu < kMinIpv6Mtu && has_ipv6(config)) {
    return base::fail(base::Code::invalid_argument,
                      "MTU {} of interface {} is too small for its IPv6 addresses: raise it to {} or use IPv4 only",
                      config.mtu, link.name, kMinIpv6Mtu);
  }
  for (const auto& route : config.routes) {
    if (route.next_hop && route.next_hop->family() != route.destination.family()) {
      return base::fail(base::Code::invalid_argument,
                        "route {} of interface {} has next hop {} of the other family: give one of its own",
                        route.destination.to_string(), link.name, route.next_hop->to_string());
    }
  }
  if (config.mac && (config.mac->is_multicast() || config.mac->is_zero())) {
    return base::fail(base::Code::invalid_argument,
                      "{} cannot be the address of interface {}: give a unicast address that is not zero",
                      config.mac->to_string(), link.name);
  }
  return {};
}

// A list of requests, each with the words for its failure and the errors that do not matter.
class Batch {
 public:
  Batch(Netns& netns, const Link& link) : netns_(netns), link_(link) {}

  void add(std::string what, Message message, int harmless = 0, int harmless_too = 0) {
    messages_.push_back(std::move(message));
    notes_.push_back({std::move(what), harmless, harmless_too});
  }

  base::Result<void> send() {
    if (messages_.empty()) return {};
    auto replies = netns_.route().exchange(messages_);
    if (!replies) return std::unexpected(replies.error().wrap(netns_.name()));
    for (std::size_t i = 0; i < notes_.size(); ++i) {
      const auto& reply = replies->at(i);
      if (reply.error == 0 || reply.error == notes_[i].harmless || reply.error == notes_[i].harmless_too) continue;
      const auto what = fmt::format("{}: cannot {} on {}", netns_.name(), notes_[i].what, link_.name);
      if (reply.error == ENODEV) {
        return base::fail(base::Code::not_found, "{}: the interface is gone; request the connection again", what);
      }
      if (reply.error == EADDRINUSE) {
        return base::fail(
            base::Code::failed_precondition,
            "{}: another socket of the underlay has the tunnel's UDP port; give the forwarder another port", what);
      }
      return fail_reply(reply, what);
    }
    return {};
  }

 private:
  struct Note {
    std::string what;
    int harmless;
    int harmless_too;
  };

  Netns& netns_;
  const Link& link_;
  std::vector<Message> messages_;
  std::vector<Note> notes_;
};

// Before anything new comes: an address's removal takes routes along, and secondaries of its subnet.
base::Result<void> remove_unwanted(Netns& netns, const Link& link, const InterfaceConfig& config,
                                   const std::vector<KernelRoute>& wanted) {
  auto addresses = list_addresses(netns, link.index);
  if (!addresses) return std::unexpected(addresses.error());
  auto neighbours = list_permanent_neighbours(netns, link.index);
  if (!neighbours) return std::unexpected(neighbours.error());
  auto routes = list_routes(netns);
  if (!routes) return std::unexpected(routes.error());

  Batch batch(netns, link);
  for (const auto& address : *addresses) {
    if (std::ranges::find(config.addresses, address) != config.addresses.end()) continue;
    batch.add(fmt::format("remove address {}", address.to_string()),
              address_message(RTM_DELADDR, 0, link.index, address), EADDRNOTAVAIL);
  }
  for (const auto& neighbour : *neighbours) {
    if (std::ranges::find(config.neighbours, neighbour.address, &Neighbour::address) != config.neighbours.end())
      continue;
    batch.add(fmt::format("remove neighbour {}", neighbour.address.to_string()),
              neighbour_message(RTM_DELNEIGH, 0, link.index, neighbour), ENOENT);
  }
  for (const auto& route : *routes) {
    if (route.link != link.index || route.protocol != kRouteProtocol || route.table != RT_TABLE_MAIN) continue;
    const auto same = [&route](const KernelRoute& other) {
      return other.destination == route.destination && other.gateway == route.gateway;
    };
    if (std::ranges::any_of(wanted, same)) continue;
    // ESRCH: it went along with an address.
    batch.add(fmt::format("remove route {}", route.destination.to_string()), delete_route(route), ESRCH);
  }
  return batch.send();
}

// Linux answers for a new IPv6 address only after a job in a queue of its own has run, DAD or not; until then packets
// to it are dropped, and a lost neighbour solicitation costs its sender 1 s. The sign is the address's local route.
void await_ipv6(Netns& netns, const Link& link, const InterfaceConfig& config) {
  using Clock = std::chrono::steady_clock;
  std::vector<Message> queries;
  for (const auto& address : config.addresses) {
    if (address.family() != wire::Family::v6) continue;
    rtmsg header{};
    header.rtm_family = AF_INET6;
    header.rtm_dst_len = 128;
    queries.push_back(std::move(Message(RTM_GETROUTE, 0, header).put_address(RTA_DST, address.address())));
  }
  if (queries.empty()) return;
  const auto deadline = Clock::now() + kIpv6Patience;
  for (auto pause = kFirstPause; Clock::now() < deadline; pause = std::min(2 * pause, kLongestPause)) {
    const auto replies = netns.route().exchange(queries);
    if (!replies) return;  // the socket is broken: whoever uses it next will say so
    const auto is_local = [](const Reply& reply) {
      if (reply.objects.empty()) return false;
      const auto* found = reply.objects.front().payload<rtmsg>();
      return found != nullptr && found->rtm_type == RTN_LOCAL;
    };
    if (std::ranges::all_of(*replies, is_local)) return;
    std::this_thread::sleep_for(pause);
  }
  base::log::warning("{}: the IPv6 addresses of {} are not in use {} s after they were set", netns.name(), link.name,
                     kIpv6Patience.count());
}

}  // namespace

base::Result<void> apply(Netns& netns, const Link& link, const InterfaceConfig& config, LinkState state) {
  if (auto ok = check(link, config); !ok) return ok;
  netns.allow_ping();
  if (link.ipv6_disabled && has_ipv6(config)) {
    auto done = netns.write_sysctl(fmt::format("ipv6/conf/{}/disable_ipv6", link.name), "0");
    if (!done) return done;
  }
  const auto routes = wanted_routes(link, config);
  if (state == LinkState::kept) {
    if (auto done = remove_unwanted(netns, link, config, routes); !done) return done;
  }
  Batch batch(netns, link);
  batch.add("set link up", link_message(link, config));
  for (const auto& address : config.addresses) {
    batch.add(fmt::format("add address {}", address.to_string()),
              address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, link.index, address));
  }
  // Neighbours first: a route must not be usable before its next hop is known.
  for (const auto& neighbour : config.neighbours) {
    batch.add(fmt::format("add neighbour {}", neighbour.address.to_string()),
              neighbour_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, link.index, neighbour));
  }
  for (const auto& route : routes) {
    batch.add(fmt::format("add route {}", route.destination.to_string()), replace_route(route));
  }
  if (auto done = batch.send(); !done) return done;
  await_ipv6(netns, link, config);
  if (state == LinkState::fresh && config.policies.empty()) return {};
  return apply_policies(netns, link.index, config.policies, config.peers);
}

base::Result<std::vector<wire::Prefix>> list_addresses(Netns& netns, int link) {
  std::vector<wire::Prefix> out;
  for (const auto family : {AF_INET, AF_INET6}) {
    ifaddrmsg header{};
    header.ifa_family = static_cast<std::uint8_t>(family);
    header.ifa_index = static_cast<std::uint32_t>(link);
    auto done = netns.route().dump(
        Message(RTM_GETADDR, 0, header), fmt::format("{}: cannot list addresses", netns.name()),
        [&out, link](const Object& object) {
          const auto* found = object.payload<ifaddrmsg>();
          if (object.type() != RTM_NEWADDR || found == nullptr || static_cast<int>(found->ifa_index) != link) return;
          if (found->ifa_scope != RT_SCOPE_UNIVERSE) return;
          const auto attributes = object.attributes<IFA_MAX>(sizeof(ifaddrmsg));
          const auto local = address_of(attributes[attributes[IFA_LOCAL] != nullptr ? IFA_LOCAL : IFA_ADDRESS]);
          if (!local || found->ifa_prefixlen > local->bits()) return;
          const wire::Prefix address(*local, found->ifa_prefixlen);
          if (std::ranges::find(out, address) == out.end()) out.push_back(address);
        });
    if (!done) return std::unexpected(done.error());
  }
  return out;
}

base::Result<std::vector<Neighbour>> list_permanent_neighbours(Netns& netns, int link) {
  std::vector<Neighbour> out;
  Message message(RTM_GETNEIGH, 0, ndmsg{});
  message.put(NDA_IFINDEX, static_cast<std::uint32_t>(link));
  auto done = netns.route().dump(std::move(message), fmt::format("{}: cannot list neighbours", netns.name()),
                                 [&out, link](const Object& object) {
                                   const auto* found = object.payload<ndmsg>();
                                   if (object.type() != RTM_NEWNEIGH || found == nullptr || found->ndm_ifindex != link)
                                     return;
                                   if ((found->ndm_state & NUD_PERMANENT) == 0) return;
                                   const auto attributes = object.attributes<NDA_MAX>(sizeof(ndmsg));
                                   const auto address = address_of(attributes[NDA_DST]);
                                   const auto* mac = attributes[NDA_LLADDR];
                                   if (!address || mac == nullptr || nla_len(mac) != 6) return;
                                   wire::MacAddress::Bytes bytes{};
                                   std::memcpy(bytes.data(), nla_data(mac), bytes.size());
                                   out.push_back({.address = *address, .mac = wire::MacAddress(bytes)});
                                 });
  if (!done) return std::unexpected(done.error());
  return out;
}

}  // namespace kernel
