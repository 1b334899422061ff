// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_local_bypass/registry_local_bypass.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

Task<Result<NetworkServiceEndpoint>> RegistryLocalBypass::enroll(RegistryCall& call, NetworkServiceEndpoint endpoint) {
  const std::string name = endpoint.name();
  const std::string url = endpoint.url();
  if (url.empty()) {
    co_return fail(Code::invalid_argument, "endpoint {} has no URL: register it with the one it listens on", name);
  }
  // Known before the registry is: a watcher may hear of the endpoint before this call has its answer.
  const auto known = urls_.find(name);
  const std::optional<std::string> before = known == urls_.end() ? std::nullopt : std::optional(known->second);
  urls_.insert_or_assign(name, url);
  endpoint.set_url(public_url_);

  auto stored = co_await next().enroll(call, std::move(endpoint));
  if (stored) {
    stored->set_url(url);
  } else if (before) {
    urls_.insert_or_assign(name, *before);
  } else {
    urls_.erase(name);
  }
  co_return stored;
}

Task<Result<void>> RegistryLocalBypass::withdraw(RegistryCall& call, NetworkServiceEndpoint endpoint) {
  const std::string name = endpoint.name();
  if (!urls_.contains(name)) co_return Result<void>();
  endpoint.set_url(public_url_);
  auto done = co_await next().withdraw(call, std::move(endpoint));
  urls_.erase(name);  // also if upstream could not be told: there it expires
  co_return done;
}

Task<Result<RegistryLocalBypass::Stream>> RegistryLocalBypass::find(RegistryCall& call, Query query) {
  auto stream = co_await next().find(call, std::move(query));
  if (!stream) co_return stream;
  co_return std::make_unique<MappedStream<Endpoints>>(
      std::move(*stream), [this](Found<Endpoints> found) { return localised(std::move(found)); });
}

std::optional<Found<Endpoints>> RegistryLocalBypass::localised(Found<Endpoints> found) const {
  NetworkServiceEndpoint& endpoint = Endpoints::record(found.response);
  if (endpoint.url() != public_url_) return found;
  if (const auto known = urls_.find(endpoint.name()); known != urls_.end()) {
    endpoint.set_url(known->second);
  } else if (!found.response.deleted()) {
    return std::nullopt;
  }
  return found;
}

}  // namespace mesh
