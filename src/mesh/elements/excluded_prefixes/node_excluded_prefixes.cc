// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/excluded_prefixes/node_excluded_prefixes.h"

#include <set>

namespace mesh {

base::Task<base::Result<Connection>> NodeExcludedPrefixes::request(Call& call, NetworkServiceRequest request) {
  const auto& prefixes = file_.prefixes();
  auto& excluded = *request.mutable_connection()->mutable_context()->mutable_ip_context()->mutable_excluded_prefixes();
  const std::set<std::string> there(excluded.begin(), excluded.end());
  for (const std::string& prefix : prefixes) {
    if (!there.contains(prefix)) excluded.Add(std::string(prefix));
  }
  return call.next(std::move(request));
}

}  // namespace mesh
