// SPDX-License-Identifier: Apache-2.0
#include "kernel/link.h"

#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <net/if.h>

#include <algorithm>
#include <bit>
#include <cerrno>

namespace kernel {
namespace {

constexpr std::string_view kMarkPrefix = "patchbay:";
constexpr std::size_t kMaxAlias = 255;  // IFALIASZ less the terminating zero

template <std::size_t kMaximum>
std::array<nlattr*, kMaximum + 1> nested(nlattr* attribute) {
  std::array<nlattr*, kMaximum + 1> out{};
  if (attribute != nullptr) nla_parse_nested(out.data(), kMaximum, attribute, nullptr);
  return out;
}

bool ipv6_disabled(nlattr* af_spec) {
  if (af_spec == nullptr) return false;
  nlattr* family = nla_find(static_cast<nlattr*>(nla_data(af_spec)), nla_len(af_spec), AF_INET6);
  if (family == nullptr) return false;
  nlattr* values = nla_find(static_cast<nlattr*>(nla_data(family)), nla_len(family), IFLA_INET6_CONF);
  constexpr std::size_t kAt = DEVCONF_DISABLE_IPV6 * sizeof(std::int32_t);
  if (values == nullptr || static_cast<std::size_t>(nla_len(values)) < kAt + sizeof(std::int32_t)) return false;
  std::int32_t value = 0;
  std::memcpy(&value, static_cast<const std::uint8_t*>(nla_data(values)) + kAt, sizeof value);
  return value != 0;
}

Link::Vxlan parse_vxlan(nlattr* attribute) {
  const auto attributes = nested<IFLA_VXLAN_MAX>(attribute);
  Link::Vxlan out;
  out.vni = u32_of(attributes[IFLA_VXLAN_ID]).value_or(0);
  if (const auto* port = attributes[IFLA_VXLAN_PORT]; port != nullptr && nla_len(port) >= 2) {
    out.port = std::byteswap(nla_get_u16(port));
  }
  out.local = address_of(attributes[attributes[IFLA_VXLAN_LOCAL6] != nullptr ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL]);
  out.remote = address_of(attributes[attributes[IFLA_VXLAN_GROUP6] != nullptr ? IFLA_VXLAN_GROUP6 : IFLA_VXLAN_GROUP]);
  return out;
}

base::Result<std::optional<Link>> find(Netns& netns, Message message, const std::string& shown) {
  auto replies = netns.route().exchange({&message, 1});
  if (!replies) return std::unexpected(replies.error().wrap(netns.name()));
  const auto& reply = replies->front();
  if (reply.error == ENODEV) return std::nullopt;
  if (reply.error != 0) return fail_reply(reply, fmt::format("{}: cannot look up interface {}", netns.name(), shown));
  for (const auto& object : reply.objects) {
    if (auto link = parse_link(object)) return link;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Mark> Mark::parse(std::string_view alias) {
  if (!alias.starts_with(kMarkPrefix)) return std::nullopt;
  alias.remove_prefix(kMarkPrefix.size());
  const auto colon = alias.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  return Mark{.owner = std::string(alias.substr(0, colon)), .connection = std::string(alias.substr(colon + 1))};
}

base::Result<void> Mark::check() const {
  if (owner.empty() || owner.find_first_of(std::string_view(":\0", 2)) != std::string::npos) {
    return base::fail(base::Code::invalid_argument,
                      "\"{}\" cannot own interfaces: give the forwarder a name without ':'", owner);
  }
  if (connection.empty() || connection.find('\0') != std::string::npos || alias().size() > kMaxAlias) {
    return base::fail(
        base::Code::invalid_argument,
        "connection id \"{}\" of {} bytes cannot mark an interface: with the forwarder's name it may have 1"
        " to {} bytes, none of them zero",
        connection.substr(0, 64), connection.size(), kMaxAlias - kMarkPrefix.size() - owner.size() - 1);
  }
  return {};
}

base::Result<void> check_interface_name(std::string_view name) {
  const auto refused = [name](std::string_view why) {
    std::string shown;
    for (const char c : name.substr(0, 64)) shown += (c >= ' ' && c <= '~') ? c : '?';
    return base::fail(base::Code::invalid_argument, "\"{}\" cannot name an interface: {}", shown, why);
  };
  if (name.empty()) return refused("it is empty; give 1 to 15 bytes");
  if (name.size() >= IFNAMSIZ) return refused(fmt::format("it has {} bytes; Linux takes at most 15", name.size()));
  if (name == "." || name == ".." || name == "all" || name == "default") {
    return refused("Linux reserves this name; choose another");
  }
  for (const char c : name) {
    if (c == '/' || c == ':' || c == '%' || c <= ' ' || c == '\x7f') {
      return refused("it has a '/', ':', '%', blank or control character; leave that out");
    }
  }
  return {};
}

std::optional<Link> parse_link(const Object& object) {
  const auto* header = object.payload<ifinfomsg>();
  if (object.type() != RTM_NEWLINK || header == nullptr) return std::nullopt;
  const auto attributes = object.attributes<IFLA_MAX>(sizeof(ifinfomsg));
  Link out;
  out.index = header->ifi_index;
  out.flags = header->ifi_flags;
  out.name = text_of(attributes[IFLA_IFNAME]);
  out.alias = text_of(attributes[IFLA_IFALIAS]);
  out.mtu = u32_of(attributes[IFLA_MTU]).value_or(0);
  out.group = u32_of(attributes[IFLA_GROUP]).value_or(0);
  out.peer_index = static_cast<int>(u32_of(attributes[IFLA_LINK]).value_or(0));
  if (const auto id = u32_of(attributes[IFLA_LINK_NETNSID])) out.peer_netns = static_cast<std::int32_t>(*id);
  if (const auto* mac = attributes[IFLA_ADDRESS]; mac != nullptr && nla_len(mac) == 6) {
    wire::MacAddress::Bytes bytes{};
    std::memcpy(bytes.data(), nla_data(mac), bytes.size());
    out.mac = wire::MacAddress(bytes);
  }
  const auto information = nested<IFLA_INFO_MAX>(attributes[IFLA_LINKINFO]);
  out.kind = text_of(information[IFLA_INFO_KIND]);
  if (out.kind == "vxlan") out.vxlan = parse_vxlan(information[IFLA_INFO_DATA]);
  out.ipv6_disabled = ipv6_disabled(attributes[IFLA_AF_SPEC]);
  if (const auto* counters = attributes[IFLA_STATS64]; counters != nullptr) {
    rtnl_link_stats64 values{};
    std::memcpy(&values, nla_data(counters), std::min(sizeof values, static_cast<std::size_t>(nla_len(counters))));
    out.statistics = {.received_packets = values.rx_packets,
                      .received_bytes = values.rx_bytes,
                      .received_dropped = values.rx_dropped,
                      .sent_packets = values.tx_packets,
                      .sent_bytes = values.tx_bytes,
                      .sent_dropped = values.tx_dropped};
  }
  return out;
}

Message get_link(const std::string& name) {
  return std::move(Message(RTM_GETLINK, 0, ifinfomsg{}).put_text(IFLA_IFNAME, name));
}

base::Result<std::optional<Link>> find_link(Netns& netns, const std::string& name) {
  return find(netns, get_link(name), name);
}

base::Result<std::optional<Link>> find_link(Netns& netns, int index) {
  ifinfomsg header{};
  header.ifi_index = index;
  return find(netns, Message(RTM_GETLINK, 0, header), fmt::format("number {}", index));
}

base::Result<std::vector<Link>> list_links(Netns& netns) {
  std::map<int, Link> links;
  auto done =
      netns.route().dump(Message(RTM_GETLINK, 0, ifinfomsg{}), fmt::format("{}: cannot list interfaces", netns.name()),
                         [&links](const Object& object) {
                           if (auto link = parse_link(object)) links.insert_or_assign(link->index, *link);
                         });
  if (!done) return std::unexpected(done.error());
  std::vector<Link> out;
  out.reserve(links.size());
  for (auto& [index, link] : links) out.push_back(std::move(link));
  return out;
}

base::Result<LinkStatistics> statistics(Netns& netns, const std::string& name) {
  auto link = find_link(netns, name);
  if (!link) return std::unexpected(link.error());
  if (*link) return (*link)->statistics;
  return base::fail(base::Code::not_found, "interface {} is not in {}: it was deleted or never made", name,
                    netns.name());
}

}  // namespace kernel
