// SPDX-License-Identifier: Apache-2.0
// Dates an endpoint: when it was first registered. What is stored under the name wins over what the caller says, that
// over now; so the date stays until the endpoint is unregistered or expires.
//
// Changes: initial_registration_time. Keeps nothing: the store does. Before it: one call per name at a time.
#pragma once

#include "mesh/core/api.h"
#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

class RegistryTime final : public RegistryElement<Endpoints> {
 public:
  base::Task<base::Result<NetworkServiceEndpoint>> enroll(RegistryCall& call,
                                                          NetworkServiceEndpoint endpoint) override {
    Query query;
    Endpoints::record(query).set_name(endpoint.name());
    auto known = co_await find_all<Endpoints>(next(), call, std::move(query));
    if (!known) co_return std::unexpected(known.error());
    if (!known->empty() && Endpoints::record(known->front().response).has_initial_registration_time()) {
      *endpoint.mutable_initial_registration_time() =
          Endpoints::record(known->front().response).initial_registration_time();
    } else if (!endpoint.has_initial_registration_time()) {
      set_time(endpoint.mutable_initial_registration_time(), call.scheduler.wall_now());
    }
    co_return co_await next().enroll(call, std::move(endpoint));
  }
};

}  // namespace mesh
