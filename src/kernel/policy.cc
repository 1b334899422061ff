// SPDX-License-Identifier: Apache-2.0
#include "kernel/policy.h"

#include <linux/fib_rules.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>

#include "kernel/link.h"

namespace kernel {
namespace {

std::optional<unsigned> parse_number(std::string_view text, unsigned maximum) {
  unsigned value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || value > maximum) return std::nullopt;
  return value;
}

Message rule_message(std::uint16_t type, std::uint16_t flags, const KernelRule& rule) {
  fib_rule_hdr header{};
  header.family = rule.family == wire::Family::v4 ? AF_INET : AF_INET6;
  header.action = FR_ACT_TO_TBL;
  header.table = rule.table < 256 ? static_cast<std::uint8_t>(rule.table) : 0;
  if (rule.from) header.src_len = static_cast<std::uint8_t>(rule.from->length());
  Message message(type, flags, header);
  message.put(FRA_TABLE, rule.table).put(FRA_PROTOCOL, rule.protocol);
  if (rule.from) message.put_address(FRA_SRC, rule.from->address());
  if (rule.ip_protocol) message.put(FRA_IP_PROTO, *rule.ip_protocol);
  const auto put_ports = [&message](int attribute, const std::optional<PortRange>& ports) {
    if (ports) message.put(attribute, fib_rule_port_range{.start = ports->first, .end = ports->last});
  };
  put_ports(FRA_DPORT_RANGE, rule.destination_port);
  put_ports(FRA_SPORT_RANGE, rule.source_port);
  if (rule.priority != 0) message.put(FRA_PRIORITY, rule.priority);
  return message;
}

std::optional<PortRange> ports_of(const nlattr* attribute) {
  if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(fib_rule_port_range))) return std::nullopt;
  fib_rule_port_range range{};
  std::memcpy(&range, nla_data(attribute), sizeof range);
  return PortRange{.first = range.start, .last = range.end};
}

std::optional<std::uint8_t> u8_of(const nlattr* attribute) {
  if (attribute == nullptr || nla_len(attribute) < 1) return std::nullopt;
  return nla_get_u8(attribute);
}

std::optional<KernelRule> parse_rule(const Object& object) {
  const auto* header = object.payload<fib_rule_hdr>();
  if (object.type() != RTM_NEWRULE || header == nullptr) return std::nullopt;
  if (header->family != AF_INET && header->family != AF_INET6) return std::nullopt;
  const auto attributes = object.attributes<FRA_MAX>(sizeof(fib_rule_hdr));
  KernelRule rule;
  rule.family = header->family == AF_INET ? wire::Family::v4 : wire::Family::v6;
  if (const auto source = address_of(attributes[FRA_SRC]); source && header->src_len <= source->bits()) {
    rule.from = wire::Prefix(*source, header->src_len);
  }
  rule.ip_protocol = u8_of(attributes[FRA_IP_PROTO]);
  rule.destination_port = ports_of(attributes[FRA_DPORT_RANGE]);
  rule.source_port = ports_of(attributes[FRA_SPORT_RANGE]);
  rule.table = u32_of(attributes[FRA_TABLE]).value_or(header->table);
  rule.priority = u32_of(attributes[FRA_PRIORITY]).value_or(0);
  rule.protocol = u8_of(attributes[FRA_PROTOCOL]).value_or(0);
  return rule;
}

std::set<wire::Family> families_of(const Policy& policy, std::span<const wire::Prefix> peers) {
  if (policy.from) return {policy.from->family()};
  std::set<wire::Family> out;
  for (const auto& route : policy.routes) out.insert(route.destination.family());
  if (out.empty()) {
    for (const auto& peer : peers) out.insert(peer.family());
  }
  return out;
}

std::vector<KernelRoute> routes_of(const Policy& policy, wire::Family family, std::span<const wire::Prefix> peers,
                                   int link, std::uint32_t table) {
  std::vector<KernelRoute> out;
  for (const auto& route : policy.routes) {
    if (route.destination.family() == family) out.push_back(resolve(route, peers, link, table));
  }
  if (policy.routes.empty()) {
    const Route everything{.destination = family == wire::Family::v4
                                              ? wire::Prefix()
                                              : wire::Prefix(wire::IpAddress(wire::IpAddress::Bytes16{}), 0),
                           .next_hop = {}};
    out.push_back(resolve(everything, peers, link, table));
  }
  return out;
}

// The rules of ours that lead to the link, or to a table without routes.
std::vector<KernelRule> rules_of(int link, const std::vector<KernelRule>& rules,
                                 const std::vector<KernelRoute>& routes) {
  std::vector<KernelRule> out;
  for (const auto& rule : rules) {
    if (rule.protocol != kRouteProtocol) continue;
    bool here = false;
    bool elsewhere = false;
    for (const auto& route : routes) {
      if (route.table != rule.table) continue;
      (route.link == link ? here : elsewhere) = true;
    }
    if (here || !elsewhere) out.push_back(rule);
  }
  return out;
}

}  // namespace

base::Result<PortRange> PortRange::parse(std::string_view text) {
  const auto dash = text.find('-');
  const auto first = parse_number(text.substr(0, dash), 65535);
  const auto last = dash == std::string_view::npos ? first : parse_number(text.substr(dash + 1), 65535);
  if (first && last && *first != 0 && *first <= *last) {
    return PortRange{.first = static_cast<std::uint16_t>(*first), .last = static_cast<std::uint16_t>(*last)};
  }
  return base::fail(base::Code::invalid_argument,
                    "\"{}\" is not a port or a range of ports: write it like 80 or 1000-2000, from 1 to 65535",
                    text.substr(0, 64));
}

std::string PortRange::to_string() const {
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

base::Result<std::uint8_t> parse_ip_protocol(std::string_view text) {
  struct Named {
    std::string_view name;
    std::uint8_t number;
  };
  static constexpr Named kNames[] = {{"tcp", IPPROTO_TCP},
                                     {"udp", IPPROTO_UDP},
                                     {"icmp", IPPROTO_ICMP},
                                     {"ipv6-icmp", IPPROTO_ICMPV6},
                                     {"sctp", IPPROTO_SCTP}};
  for (const auto& [name, number] : kNames) {
    if (text == name) return number;
  }
  if (const auto number = parse_number(text, 255)) return static_cast<std::uint8_t>(*number);
  return base::fail(base::Code::invalid_argument,
                    "\"{}\" is not an IP protocol: give its number from 0 to 255, or tcp, udp, icmp, ipv6-icmp, sctp",
                    text.substr(0, 64));
}

bool KernelRule::same_selector(const KernelRule& other) const {
  return family == other.family && from == other.from && ip_protocol == other.ip_protocol &&
         destination_port == other.destination_port && source_port == other.source_port;
}

std::string KernelRule::to_string() const {
  std::string out = fmt::format("from {}", from ? from->to_string() : "all");
  if (ip_protocol) out += fmt::format(" ipproto {}", *ip_protocol);
  if (source_port) out += fmt::format(" sport {}", source_port->to_string());
  if (destination_port) out += fmt::format(" dport {}", destination_port->to_string());
  return out + fmt::format(" lookup {}", table);
}

base::Result<std::vector<KernelRule>> list_rules(Netns& netns) {
  std::vector<KernelRule> out;
  auto done =
      netns.route().dump(Message(RTM_GETRULE, 0, fib_rule_hdr{}),
                         fmt::format("{}: cannot list routing rules", netns.name()), [&out](const Object& object) {
                           if (auto rule = parse_rule(object)) out.push_back(std::move(*rule));
                         });
  if (!done) return std::unexpected(done.error());
  return out;
}

base::Result<void> delete_rule(Netns& netns, const KernelRule& rule) {
  Message message = rule_message(RTM_DELRULE, 0, rule);
  auto replies = netns.route().exchange({&message, 1});
  if (!replies) return std::unexpected(replies.error().wrap(netns.name()));
  const auto& reply = replies->front();
  if (reply.error == 0 || reply.error == ENOENT) return {};
  return fail_reply(reply, fmt::format("{}: cannot delete rule \"{}\"", netns.name(), rule.to_string()));
}

base::Result<void> apply_policies(Netns& netns, int link, std::span<const Policy> policies,
                                  std::span<const wire::Prefix> peers) {
  auto rules = list_rules(netns);
  if (!rules) return std::unexpected(rules.error());
  // The usual case costs one dump: no policies wanted, none there.
  if (policies.empty() &&
      std::ranges::none_of(*rules, [](const KernelRule& rule) { return rule.protocol == kRouteProtocol; })) {
    return {};
  }
  auto routes = list_routes(netns);
  if (!routes) return std::unexpected(routes.error());
  auto unclaimed = rules_of(link, *rules, *routes);
  std::set<std::uint32_t> used{RT_TABLE_UNSPEC, RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL};
  for (const auto& rule : *rules) used.insert(rule.table);
  for (const auto& route : *routes) used.insert(route.table);
  std::erase_if(*routes, [link](const KernelRoute& route) {
    return route.link != link || route.protocol != kRouteProtocol || route.table == RT_TABLE_MAIN;
  });

  struct Step {
    std::string what;
    Message message;
  };
  std::vector<Step> steps;
  std::vector<KernelRoute> wanted_routes;
  for (const auto& policy : policies) {
    std::optional<std::uint32_t> table;
    for (const auto family : families_of(policy, peers)) {
      KernelRule rule{.family = family,
                      .from = policy.from,
                      .ip_protocol = policy.protocol,
                      .destination_port = policy.destination_port,
                      .source_port = policy.source_port,
                      .protocol = kRouteProtocol};
      const auto kept =
          std::ranges::find_if(unclaimed, [&rule](const KernelRule& other) { return rule.same_selector(other); });
      if (kept != unclaimed.end()) {
        rule = *kept;
        unclaimed.erase(kept);
      } else {
        if (!table) {
          for (table = 1; used.contains(*table);) ++*table;
          used.insert(*table);
        }
        rule.table = *table;
      }
      for (auto& route : routes_of(policy, family, peers, link, rule.table)) {
        steps.push_back(
            {fmt::format("route {} of table {}", route.destination.to_string(), rule.table), replace_route(route)});
        wanted_routes.push_back(std::move(route));
      }
      // A rule comes after its table's routes: by them it is known whose it is, should we die in between.
      if (rule.priority == 0) {
        steps.push_back(
            {fmt::format("rule \"{}\"", rule.to_string()), rule_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule)});
      }
    }
  }
  for (const auto& rule : unclaimed) {
    if (auto done = delete_rule(netns, rule); !done) return done;
  }
  for (const auto& route : *routes) {
    const bool wanted = std::ranges::any_of(wanted_routes, [&route](const KernelRoute& other) {
      return other.table == route.table && other.destination == route.destination;
    });
    if (!wanted) steps.push_back({"", delete_route(route)});
  }

  std::vector<Message> batch;
  for (auto& step : steps) batch.push_back(std::move(step.message));
  auto replies = netns.route().exchange(batch);
  if (!replies) return std::unexpected(replies.error().wrap(netns.name()));
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto& reply = replies->at(i);
    if (reply.error != 0 && !steps[i].what.empty()) {
      return fail_reply(reply, fmt::format("{}: cannot set {}", netns.name(), steps[i].what));
    }
  }
  return {};
}

base::Result<void> remove_policies(Netns& netns, int link) { return apply_policies(netns, link, {}, {}); }

}  // namespace kernel
