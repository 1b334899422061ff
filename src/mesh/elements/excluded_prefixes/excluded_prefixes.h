// SPDX-License-Identifier: Apache-2.0
// The client's side of excluded prefixes: no two endpoints give one workload the same addresses.
//
// Changes: ip_context.excluded_prefixes, to which what the process's other connections use is added on the way down
// (their addresses, host routes and what they were told to avoid) and from which it is taken again on the way back, so
// that it does not outlive them. Connections of one awareness group know of each other and may share addresses. After:
// begin. Keeps: what the connection uses. An answer with an address that another connection has, or that was excluded
// alone, is refused and undone. Failed repeated request: the connection goes on counting with what it had. Repeated
// request: with the others as they are then.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "mesh/core/element.h"
#include "mesh/core/network_service_url.h"
#include "wire/address.h"

namespace mesh {

class ExcludedPrefixes final : public Element {
 public:
  using Needs = Types<Serialised>;
  using AwarenessGroups = std::vector<std::vector<NetworkServiceUrl>>;

  explicit ExcludedPrefixes(AwarenessGroups groups = {}) : groups_(std::move(groups)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  struct Use {
    std::set<std::size_t> groups;         // that the connection belongs to
    std::set<wire::IpAddress> addresses;  // src, dst and host routes
    std::set<std::string> told;           // the answer's excluded prefixes less those added here
  };

  std::set<std::size_t> groups_of(const NetworkServiceRequest& request) const;
  std::set<std::string> used_by_others(const std::string& id, const Use& own) const;
  base::Result<void> validate(const Connection& connection, const Use& own,
                              const std::set<std::string>& excluded) const;

  const AwarenessGroups groups_;
  std::map<std::string, Use> uses_;  // by the connection's id; only connections that have been answered
};

}  // namespace mesh
