// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_authorize/registry_authorize.h"

namespace mesh {

std::vector<Asked> offers_of(const NetworkServiceEndpoint& endpoint) {
  std::vector<Asked> offers;
  for (const std::string& service : endpoint.network_service_names()) {
    Asked asked;
    asked.service = service;
    const auto labels = endpoint.network_service_labels().find(service);
    if (labels != endpoint.network_service_labels().end()) asked.labels = ordered(labels->second.labels());
    offers.push_back(std::move(asked));
  }
  return offers;
}

std::vector<Asked> offers_of(const NetworkService& service) {
  Asked asked;
  asked.service = service.name();
  return {std::move(asked)};
}

std::vector<std::string> path_ids_of(const RegistrationPath& path) {
  std::vector<std::string> ids;
  for (std::size_t i = 0; i <= path.index && i < path.tokens.size(); ++i) ids.push_back(token_subject(path.tokens[i]));
  if (ids.empty()) ids.emplace_back();
  return ids;
}

}  // namespace mesh
