// SPDX-License-Identifier: Apache-2.0
#include "kernel/wiring.h"

#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>

#include <array>
#include <bit>
#include <cerrno>
#include <utility>

#include "kernel/policy.h"

namespace kernel {
namespace {

constexpr std::uint32_t kMaxVni = (1U << 24) - 1;
constexpr std::uint32_t kMinMtu = 68;  // RFC 791
constexpr int kAttempts = 2;           // the second after the name was freed

base::Result<void> check(const Mark& mark, const Place& place, std::uint32_t mtu) {
  if (auto done = mark.check(); !done) return done;
  if (auto done = check_interface_name(place.name); !done) return done;
  if (mtu != 0 && (mtu < kMinMtu || mtu > kMaxMtu)) {
    return base::fail(base::Code::invalid_argument,
                      "MTU {} of interface {} is out of range: give {} to {}, or 0 for any", mtu, place.name, kMinMtu,
                      kMaxMtu);
  }
  return {};
}

// Group and MTU go into the request that makes the device; the alias cannot, the kernel takes it only afterwards.
void describe(Message& message, const Place& place, std::uint32_t mtu) {
  message.put_text(IFLA_IFNAME, place.name).put(IFLA_GROUP, kLiveGroup);
  if (mtu != 0) message.put(IFLA_MTU, mtu);
}

Message new_veth(const VethRequest& request) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  describe(message, request.a, request.mtu);
  return std::move(message.nest(IFLA_LINKINFO, [&request](Message& information) {
    information.put_text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, [&request](Message& data) {
      data.nest(VETH_INFO_PEER, [&request](Message& peer) {
        peer.put_header(ifinfomsg{});
        describe(peer, request.b, request.mtu);
        peer.put(IFLA_NET_NS_FD, static_cast<std::uint32_t>(request.b.netns->fd()));
      });
    });
  }));
}

// Nothing as the underlay's number: the tunnel runs in the workload's own namespace.
Message new_vxlan(const VxlanRequest& request, std::optional<std::int32_t> underlay_id) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  describe(message, request.place, request.mtu);
  if (underlay_id) message.put(IFLA_LINK_NETNSID, *underlay_id);
  return std::move(message.nest(IFLA_LINKINFO, [&request](Message& information) {
    information.put_text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, [&request](Message& data) {
      const bool v4 = request.local.is_v4();
      data.put(IFLA_VXLAN_ID, request.vni)
          .put_address(v4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, request.local)
          .put_address(v4 ? IFLA_VXLAN_GROUP : IFLA_VXLAN_GROUP6, request.remote)
          .put(IFLA_VXLAN_PORT, std::byteswap(request.port))
          .put(IFLA_VXLAN_LEARNING, std::uint8_t{0})
          // As VPP does: no outer checksum over IPv4, one over IPv6; a peer may leave it out there too (RFC 6935).
          .put(IFLA_VXLAN_UDP_CSUM, std::uint8_t{0})
          .put(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, std::uint8_t{1});
    });
  }));
}

Message label_message(const Link& link, const Mark& mark) {
  ifinfomsg header{};
  header.ifi_index = link.index;
  return std::move(Message(RTM_SETLINK, 0, header).put_text(IFLA_IFALIAS, mark.alias()));
}

Message up_message(const Link& link) {
  ifinfomsg header{};
  header.ifi_index = link.index;
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  return Message(RTM_SETLINK, 0, header);
}

bool is_pair(const Link& a, const Link& b) {
  return a.kind == "veth" && b.kind == "veth" && a.peer_index == b.index && b.peer_index == a.index;
}

bool matches(const Link& link, const VxlanRequest& request, std::optional<std::int32_t> underlay_id) {
  return link.vxlan && link.vxlan->vni == request.vni && link.vxlan->port == request.port &&
         link.vxlan->local == request.local && link.vxlan->remote == request.remote && link.peer_netns == underlay_id;
}

base::Result<std::optional<Link>> living(const Place& place) {
  auto link = find_link(*place.netns, place.name);
  // The lookup also answers to alternative names, which only others give.
  if (link && *link && (*link)->name == place.name && (*link)->group == kGraveGroup) return std::nullopt;
  return link;
}

}  // namespace

base::Result<void> Wiring::make_room(const Place& place) {
  auto link = find_link(*place.netns, place.name);
  if (!link) return std::unexpected(link.error());
  if (!*link) return {};
  if (!(*link)->is_ours()) {
    return base::fail(base::Code::already_exists,
                      "interface {} is already in {} and is not Patchbay's: ask for another name or remove it",
                      place.name, place.netns->name());
  }
  if (auto done = remove_policies(*place.netns, (*link)->index); !done) return done;
  return graveyard_.bury({LinkAt{.netns = place.netns, .index = (*link)->index}});
}

base::Result<void> Wiring::label(Netns& netns, const Link& link, const Mark& mark) {
  auto done =
      netns.route().request(label_message(link, mark), fmt::format("{}: cannot label {}", netns.name(), link.name));
  if (!done) return std::unexpected(done.error());
  return {};
}

// The end that comes up first has no carrier yet. When the other follows, the kernel lets the first one send only after
// a job in a queue of its own, milliseconds later: the first ARP answer would be lost, and asked for again after 1 s. A
// query for the link (since Linux 6.8) waits for that job.
//
// The label goes first and alone: any change to a link that is up makes the kernel walk all IPv6 routes of its
// namespace.
base::Result<void> Wiring::bring_up(const VethRequest& request, const VethPair& pair) {
  const auto step = [](const Place& place, Message message) -> base::Result<void> {
    auto done = place.netns->route().request(std::move(message),
                                             fmt::format("{}: cannot set {} up", place.netns->name(), place.name));
    if (!done) return std::unexpected(done.error());
    return {};
  };
  if (auto done = label(*request.a.netns, pair.a, request.mark); !done) return done;
  if (auto done = label(*request.b.netns, pair.b, request.mark); !done) return done;
  if (auto done = step(request.a, up_message(pair.a)); !done) return done;
  if (auto done = step(request.b, up_message(pair.b)); !done) return done;
  return step(request.a, get_link(request.a.name));
}

base::Result<VethPair> Wiring::ensure_veth(const VethRequest& request) {
  if (auto ok = check(request.mark, request.a, request.mtu); !ok) return std::unexpected(ok.error());
  if (auto ok = check(request.mark, request.b, request.mtu); !ok) return std::unexpected(ok.error());
  const auto what = fmt::format("cannot make the veth pair {} in {} and {} in {}", request.a.name,
                                request.a.netns->name(), request.b.name, request.b.netns->name());
  if (request.a.netns == request.b.netns && request.a.name == request.b.name) {
    return base::fail(base::Code::invalid_argument, "{}: two interfaces of one namespace need different names", what);
  }
  for (int attempt = 1;; ++attempt) {
    // Asked in a's namespace: there the kernel checks that a's name is free.
    std::array batch{new_veth(request), get_link(request.a.name)};
    auto replies = request.a.netns->route().exchange(batch);
    if (!replies) return std::unexpected(replies.error().wrap(what));
    const bool made = replies->at(0).error == 0;
    if (!made && (replies->at(0).error != EEXIST || attempt == kAttempts)) return fail_reply(replies->at(0), what);

    auto a = made && !replies->at(1).objects.empty() ? parse_link(replies->at(1).objects.front()) : std::nullopt;
    if (!made) {
      auto found = living(request.a);
      if (!found) return std::unexpected(found.error());
      a = *found;
    }
    auto b = living(request.b);
    if (!b) return std::unexpected(b.error());
    if (a && *b && is_pair(*a, **b)) {
      VethPair pair{.a = std::move(*a), .b = std::move(**b), .made = made};
      if (made) {
        if (auto up = bring_up(request, pair); !up) {
          (void)graveyard_.bury({{request.a.netns, pair.a.index}, {request.b.netns, pair.b.index}});
          return std::unexpected(up.error());
        }
        return pair;
      }
      if (pair.a.mark() == request.mark && pair.b.mark() == request.mark) return pair;
    }
    if (made) {
      return base::fail(base::Code::aborted, "{}: it was renamed or removed by somebody else meanwhile", what);
    }
    if (auto room = make_room(request.a); !room) return std::unexpected(room.error());
    if (auto room = make_room(request.b); !room) return std::unexpected(room.error());
  }
}

base::Result<VxlanLink> Wiring::ensure_vxlan(const VxlanRequest& request) {
  if (auto ok = check(request.mark, request.place, request.mtu); !ok) return std::unexpected(ok.error());
  const auto what =
      fmt::format("cannot make VXLAN interface {} in {}", request.place.name, request.place.netns->name());
  if (request.vni == 0 || request.vni > kMaxVni) {
    return base::fail(base::Code::invalid_argument, "{}: VNI {} is out of range; give 1 to {}", what, request.vni,
                      kMaxVni);
  }
  if (request.local.family() != request.remote.family() || request.port == 0) {
    return base::fail(
        base::Code::invalid_argument,
        "{}: the tunnel from {} to {} port {} needs two addresses of one family and a port from 1 to 65535", what,
        request.local.to_string(), request.remote.to_string(), request.port);
  }
  std::optional<std::int32_t> underlay_id;
  if (request.underlay->key() != request.place.netns->key()) {
    auto id = request.place.netns->id_of(*request.underlay);
    if (!id) return std::unexpected(id.error().wrap(what));
    underlay_id = *id;
  }

  for (int attempt = 1;; ++attempt) {
    std::array batch{new_vxlan(request, underlay_id), get_link(request.place.name)};
    auto replies = request.place.netns->route().exchange(batch);
    if (!replies) return std::unexpected(replies.error().wrap(what));
    const auto& outcome = replies->at(0);
    const auto& found = replies->at(1);
    auto link = found.objects.empty() ? std::nullopt : parse_link(found.objects.front());
    if (outcome.error == 0) {
      if (!link) return base::fail(base::Code::aborted, "{}: it was removed by somebody else meanwhile", what);
      if (auto labelled = label(*request.place.netns, *link, request.mark); !labelled) {
        (void)graveyard_.bury({LinkAt{request.place.netns, link->index}});
        return std::unexpected(labelled.error());
      }
      return VxlanLink{.link = std::move(*link), .made = true};
    }
    if (outcome.error != EEXIST) return fail_reply(outcome, what);
    if (link && link->mark() == request.mark && matches(*link, request, underlay_id)) {
      return VxlanLink{.link = std::move(*link), .made = false};
    }
    if (attempt == kAttempts) {
      return base::fail(
          base::Code::already_exists,
          "{}: VNI {} on UDP port {} is taken by another VXLAN interface of {}: choose another VNI, or remove"
          " that interface",
          what, request.vni, request.port, request.underlay->name());
    }
    if (auto room = make_room(request.place); !room) return std::unexpected(room.error());
    // A retired device keeps its VNI until it is deleted.
    if (auto flushed = graveyard_.flush(); !flushed) return std::unexpected(flushed.error().wrap(what));
  }
}

base::Result<void> Wiring::remove(const Mark& mark, const std::vector<Place>& places) {
  base::Result<void> outcome;
  std::vector<LinkAt> ends;
  for (const auto& place : places) {
    auto link = find_link(*place.netns, place.name);
    if (!link) {
      outcome = std::unexpected(link.error());
      continue;
    }
    if (!*link || (*link)->mark() != mark) continue;
    if (auto done = remove_policies(*place.netns, (*link)->index); !done) outcome = std::move(done);
    ends.push_back({place.netns, (*link)->index});
  }
  if (auto buried = graveyard_.bury(ends); !buried) outcome = std::move(buried);
  return outcome;
}

}  // namespace kernel
