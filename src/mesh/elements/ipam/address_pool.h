// SPDX-License-Identifier: Apache-2.0
// The addresses of one prefix, handed out lowest first. An address is taken as long as somebody holds it; the last
// holder to let go gives it back. All of them count, network and broadcast address included: on a point-to-point wire
// they are ordinary. Cost: logarithmic in the number of gaps between addresses taken, not in the prefix's size.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>

#include "wire/address.h"

namespace mesh {

// Copies share the address. Null: none.
using HeldAddress = std::shared_ptr<const wire::IpAddress>;

// What must not be handed out, as ranges: prefixes may overlap and be many.
class Exclusions {
 public:
  Exclusions() = default;
  explicit Exclusions(std::span<const wire::Prefix> prefixes);

  bool contains(const wire::IpAddress& address) const { return last_of_range(address).has_value(); }
  // The last address of the excluded range the address lies in; nothing if it lies in none.
  std::optional<wire::IpAddress> last_of_range(const wire::IpAddress& address) const;

 private:
  std::map<wire::IpAddress, wire::IpAddress> ranges_;  // first -> last, disjoint
};

class AddressPool : public std::enable_shared_from_this<AddressPool> {
 public:
  static std::shared_ptr<AddressPool> make(const wire::Prefix& prefix) {
    return std::shared_ptr<AddressPool>(new AddressPool(prefix));
  }

  const wire::Prefix& prefix() const { return prefix_; }
  bool contains(const wire::IpAddress& address) const { return prefix_.contains(address); }
  bool is_free(const wire::IpAddress& address) const;

  // The lowest free address that is not excluded; null if there is none.
  HeldAddress take_lowest(const Exclusions& excluded);
  // This address; null if it is taken or not of this pool.
  HeldAddress take(const wire::IpAddress& address);

 private:
  explicit AddressPool(const wire::Prefix& prefix);
  using Ranges = std::map<wire::IpAddress, wire::IpAddress>;  // first -> last, disjoint, never touching

  HeldAddress take_from(Ranges::iterator range, const wire::IpAddress& address);
  Ranges::const_iterator range_of(const wire::IpAddress& address) const;  // end() if it is not free
  void give_back(const wire::IpAddress& address);

  const wire::Prefix prefix_;
  Ranges free_;
};

}  // namespace mesh
