// SPDX-License-Identifier: Apache-2.0
// Chooses the two addresses of a wire: the endpoint's (dst) is the lower, the client's (src) the next free one, each
// alone in its prefix (/32, /128) with a host route to the other. One pair from every group of prefixes; a group's
// later prefixes are used when the earlier ones are full. Dual stack is two groups.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/result.h"
#include "connectioncontext.pb.h"
#include "mesh/elements/ipam/address_pool.h"

namespace mesh {

// What happens to addresses a client brings that are not this endpoint's to give.
enum class IpamPolicy {
  polite,  // they stay beside the pair
  strict,  // they go, with their routes
};

class PointToPointIpam {
 public:
  using Groups = std::vector<std::vector<wire::Prefix>>;

  // Addresses one connection holds; dropping it gives back what no other lease holds. Copies share them.
  struct Lease {
    struct Pair {
      HeldAddress dst;
      HeldAddress src;
    };
    std::vector<Pair> pairs;                      // one a group; empty before the first assignment
    std::map<wire::IpAddress, HeldAddress> kept;  // brought by the client, of our prefixes, not part of a pair
  };

  // invalid_argument: no prefix at all, an empty group, or prefixes that overlap.
  static base::Result<PointToPointIpam> make(const Groups& groups, IpamPolicy policy);

  // The lease that follows the current one, written into the context too. Pairs stay as they are unless they became
  // excluded. A request that brings both addresses, free and of one group, gets them (an endpoint that restarted finds
  // its connections' addresses so). Addresses of ours that are excluded or another connection's are taken out of the
  // context. Until the current lease is dropped both hold. Errors leave the context in an undefined state:
  // resource_exhausted when a group is full, invalid_argument when the context has an address that is none.
  base::Result<Lease> assign(const Lease& current, connectioncontext::IPContext& context) const;

 private:
  using Group = std::vector<std::shared_ptr<AddressPool>>;
  PointToPointIpam(std::vector<Group> groups, IpamPolicy policy) : groups_(std::move(groups)), policy_(policy) {}

  const std::shared_ptr<AddressPool>* pool_of(const wire::IpAddress& address) const;
  static base::Result<Lease::Pair> take_pair(const Group& group, const Exclusions& excluded);

  std::vector<Group> groups_;
  IpamPolicy policy_;
};

}  // namespace mesh
