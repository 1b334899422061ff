// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/ipam/point_to_point.h"

#include <algorithm>
#include <optional>
#include <set>

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using connectioncontext::IPContext;
using wire::IpAddress;
using wire::Prefix;

namespace {

// A client has one or two addresses a family; this many of ours in one request is a mistake or a grab for the pool.
constexpr std::size_t kMaxKept = 16;

using Texts = google::protobuf::RepeatedPtrField<std::string>;
using Routes = google::protobuf::RepeatedPtrField<connectioncontext::Route>;

Result<std::vector<Prefix>> parse_all(const Texts& texts, std::string_view field) {
  std::vector<Prefix> parsed;
  parsed.reserve(static_cast<std::size_t>(texts.size()));
  for (const std::string& text : texts) {
    auto prefix = Prefix::parse_or_host(text);
    if (!prefix) return std::unexpected(prefix.error().wrap(fmt::format("ip_context.{}", field)));
    parsed.push_back(*prefix);
  }
  return parsed;
}

template <typename Field, typename Predicate>
void remove_if(Field& field, Predicate predicate) {
  field.erase(std::remove_if(field.begin(), field.end(), predicate), field.end());
}

void remove_addresses(Texts& texts, const std::set<IpAddress>& gone) {
  remove_if(texts, [&](const std::string& text) {
    const auto prefix = Prefix::parse_or_host(text);
    return prefix && gone.contains(prefix->address());
  });
}

// The routes towards the addresses and those that go through them.
void remove_routes(Routes& routes, const std::set<IpAddress>& gone) {
  remove_if(routes, [&](const connectioncontext::Route& route) {
    const auto prefix = Prefix::parse_or_host(route.prefix());
    if (prefix && prefix->is_host() && gone.contains(prefix->address())) return true;
    const auto hop = IpAddress::parse(route.nexthop());
    return hop && gone.contains(*hop);
  });
}

void add_address(Texts& texts, const IpAddress& address) {
  const std::string text = Prefix::host(address).to_string();
  if (std::ranges::find(texts, text) == texts.end()) texts.Add(std::string(text));
}

void add_route(Routes& routes, const IpAddress& address) {
  const std::string text = Prefix::host(address).to_string();
  const auto same = [&](const connectioncontext::Route& route) { return route.prefix() == text; };
  if (std::ranges::none_of(routes, same)) routes.Add()->set_prefix(text);
}

std::string list(const std::vector<std::shared_ptr<AddressPool>>& pools) {
  std::string text;
  for (const auto& pool : pools) text += (text.empty() ? "" : ", ") + pool->prefix().to_string();
  return text;
}

}  // namespace

Result<PointToPointIpam> PointToPointIpam::make(const Groups& groups, IpamPolicy policy) {
  if (groups.empty())
    return fail(Code::invalid_argument, "no prefix to take addresses from: give at least one, as 172.16.1.0/24");
  std::vector<Group> pools;
  std::vector<Prefix> seen;
  for (const auto& group : groups) {
    if (group.empty())
      return fail(Code::invalid_argument, "a group of prefixes is empty: give it at least one, as [172.16.1.0/24]");
    Group& made = pools.emplace_back();
    for (const Prefix& prefix : group) {
      const auto other = std::ranges::find_if(seen, [&](const Prefix& one) { return one.overlaps(prefix); });
      if (other != seen.end()) {
        return fail(Code::invalid_argument,
                    "prefix {} overlaps {}: addresses would be given out twice, leave one of them out",
                    prefix.to_string(), other->to_string());
      }
      seen.push_back(prefix);
      made.push_back(AddressPool::make(prefix));
    }
  }
  return PointToPointIpam(std::move(pools), policy);
}

const std::shared_ptr<AddressPool>* PointToPointIpam::pool_of(const IpAddress& address) const {
  for (const Group& group : groups_) {
    for (const auto& pool : group) {
      if (pool->contains(address)) return &pool;
    }
  }
  return nullptr;
}

Result<PointToPointIpam::Lease::Pair> PointToPointIpam::take_pair(const Group& group, const Exclusions& excluded) {
  for (const auto& pool : group) {
    Lease::Pair pair{pool->take_lowest(excluded), pool->take_lowest(excluded)};
    if (pair.dst && pair.src) return pair;
  }
  return fail(
      Code::resource_exhausted,
      "{} has no two free addresses left for another connection: give the endpoint a larger or a further prefix",
      list(group));
}

Result<PointToPointIpam::Lease> PointToPointIpam::assign(const Lease& current, IPContext& context) const {
  auto src = parse_all(context.src_ip_addrs(), "src_ip_addrs");
  if (!src) return std::unexpected(src.error());
  auto dst = parse_all(context.dst_ip_addrs(), "dst_ip_addrs");
  if (!dst) return std::unexpected(dst.error());
  auto prefixes = parse_all(context.excluded_prefixes(), "excluded_prefixes");
  if (!prefixes) return std::unexpected(prefixes.error());
  const Exclusions excluded(*prefixes);

  Lease next;
  next.pairs.resize(groups_.size());
  std::map<IpAddress, HeldAddress> mine = current.kept;
  std::set<IpAddress> gone;  // to be taken out of the context
  for (std::size_t i = 0; i < current.pairs.size(); ++i) {
    const Lease::Pair& pair = current.pairs[i];
    if (excluded.contains(*pair.dst) || excluded.contains(*pair.src)) {
      gone.insert({*pair.dst, *pair.src});
    } else {
      next.pairs[i] = pair;
      mine.insert({{*pair.dst, pair.dst}, {*pair.src, pair.src}});
    }
  }

  // Hold what the client brought before choosing anew, so that the choice falls on something else.
  std::map<IpAddress, HeldAddress> brought;
  for (const auto* side : {&*dst, &*src}) {
    for (const Prefix& prefix : *side) {
      const IpAddress& address = prefix.address();
      if (gone.contains(address) || brought.contains(address)) continue;
      const auto* pool = pool_of(address);
      if (pool == nullptr) {
        if (policy_ == IpamPolicy::strict) gone.insert(address);
        continue;
      }
      const auto held = mine.find(address);
      HeldAddress hold = held != mine.end()           ? held->second
                         : excluded.contains(address) ? nullptr
                                                      : (*pool)->take(address);
      if (hold) {
        brought.emplace(address, std::move(hold));
      } else {
        gone.insert(address);
      }
      if (brought.size() > kMaxKept) {
        return fail(Code::invalid_argument,
                    "the request brings more than {} addresses of this endpoint's prefixes: leave them out, "
                    "the endpoint chooses",
                    kMaxKept);
      }
    }
  }

  std::set<IpAddress> paired;
  const auto pair_up = [&](Lease::Pair& slot, Lease::Pair pair) {
    slot = std::move(pair);
    paired.insert({*slot.dst, *slot.src});
  };
  for (const Lease::Pair& pair : next.pairs) {
    if (pair.dst) paired.insert({*pair.dst, *pair.src});
  }
  const auto find_brought = [&](const std::vector<Prefix>& side, const Group& group) -> HeldAddress {
    for (const Prefix& prefix : side) {
      const auto found = brought.find(prefix.address());
      if (found == brought.end() || paired.contains(prefix.address())) continue;
      const auto in_pool = [&](const auto& pool) { return pool->contains(prefix.address()); };
      if (std::ranges::any_of(group, in_pool)) return found->second;
    }
    return nullptr;
  };
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (next.pairs[i].dst) continue;
    const HeldAddress brought_dst = find_brought(*dst, groups_[i]);
    const HeldAddress brought_src = find_brought(*src, groups_[i]);
    if (brought_dst && brought_src && brought_dst != brought_src) {
      pair_up(next.pairs[i], {brought_dst, brought_src});
      continue;
    }
    auto pair = take_pair(groups_[i], excluded);
    if (!pair) return std::unexpected(pair.error());
    pair_up(next.pairs[i], std::move(*pair));
  }

  for (auto& [address, held] : brought) {
    if (paired.contains(address)) continue;
    if (policy_ == IpamPolicy::polite) {
      next.kept.emplace(address, std::move(held));
    } else {
      gone.insert(address);  // not of this endpoint's choosing
    }
  }

  remove_addresses(*context.mutable_dst_ip_addrs(), gone);
  remove_addresses(*context.mutable_src_ip_addrs(), gone);
  remove_routes(*context.mutable_src_routes(), gone);
  remove_routes(*context.mutable_dst_routes(), gone);
  for (const Lease::Pair& pair : next.pairs) {
    add_address(*context.mutable_dst_ip_addrs(), *pair.dst);
    add_address(*context.mutable_src_ip_addrs(), *pair.src);
    add_route(*context.mutable_src_routes(), *pair.dst);
    add_route(*context.mutable_dst_routes(), *pair.src);
  }
  return next;
}

}  // namespace mesh
