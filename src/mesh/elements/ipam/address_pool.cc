// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/ipam/address_pool.h"

#include <algorithm>
#include <vector>

namespace mesh {

using wire::IpAddress;
using wire::Prefix;

Exclusions::Exclusions(std::span<const Prefix> prefixes) {
  std::vector<Prefix> sorted(prefixes.begin(), prefixes.end());
  std::ranges::sort(sorted, {}, &Prefix::first);
  for (const Prefix& prefix : sorted) {
    if (!ranges_.empty() && prefix.first() <= std::prev(ranges_.end())->second) {
      // Prefixes nest or are apart, never cross.
      auto& last = std::prev(ranges_.end())->second;
      last = std::max(last, prefix.last());
    } else {
      ranges_.emplace(prefix.first(), prefix.last());
    }
  }
}

std::optional<IpAddress> Exclusions::last_of_range(const IpAddress& address) const {
  const auto after = ranges_.upper_bound(address);
  if (after == ranges_.begin()) return std::nullopt;
  const auto range = std::prev(after);
  if (address > range->second || address.family() != range->first.family()) return std::nullopt;
  return range->second;
}

AddressPool::AddressPool(const Prefix& prefix) : prefix_(prefix.network()) {
  free_.emplace(prefix_.first(), prefix_.last());
}

AddressPool::Ranges::const_iterator AddressPool::range_of(const IpAddress& address) const {
  auto after = free_.upper_bound(address);
  if (after == free_.begin()) return free_.end();
  const auto range = std::prev(after);
  return address <= range->second ? range : free_.end();
}

bool AddressPool::is_free(const IpAddress& address) const {
  return contains(address) && range_of(address) != free_.end();
}

HeldAddress AddressPool::take_lowest(const Exclusions& excluded) {
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    auto candidate = std::optional(range->first);
    while (candidate && *candidate <= range->second) {
      const auto last = excluded.last_of_range(*candidate);
      if (!last) return take_from(range, *candidate);
      candidate = last->next();
    }
  }
  return nullptr;
}

HeldAddress AddressPool::take(const IpAddress& address) {
  if (!contains(address)) return nullptr;
  const auto found = range_of(address);
  if (found == free_.end()) return nullptr;
  return take_from(free_.find(found->first), address);
}

HeldAddress AddressPool::take_from(Ranges::iterator range, const IpAddress& address) {
  const IpAddress first = range->first;
  const IpAddress last = range->second;
  free_.erase(range);
  if (first < address) free_.emplace(first, *address.previous());
  if (address < last) free_.emplace(*address.next(), last);
  return {new IpAddress(address), [pool = shared_from_this()](const IpAddress* held) {
            pool->give_back(*held);
            delete held;
          }};
}

void AddressPool::give_back(const IpAddress& address) {
  IpAddress first = address;
  IpAddress last = address;
  auto after = free_.upper_bound(address);
  if (after != free_.end() && after->first == address.next()) {
    last = after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->second == address.previous()) {
      first = before->first;
      free_.erase(before);
    }
  }
  free_.emplace(first, last);
}

}  // namespace mesh
