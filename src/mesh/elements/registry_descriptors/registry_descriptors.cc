// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_descriptors/registry_descriptors.h"

#include <algorithm>

#include "mesh/elements/descriptors/descriptor_kind.h"
#include "rpc/url.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

Task<Result<rpc::Descriptor>> RegistryDescriptors::received(RegistryCall& call, std::string name, rpc::InodeKey key) {
  if (const auto held = held_.find(name); held != held_.end() && held->second.key() == key) co_return held->second;
  if (!call.link) {  // the process registers an endpoint of its own
    const auto own = std::ranges::find(call.descriptors, key, &rpc::Descriptor::key);
    if (own != call.descriptors.end()) co_return *own;
    co_return fail(Code::invalid_argument, "endpoint {}: no descriptor for {} comes with the call", name,
                   rpc::inode_url(key));
  }
  auto descriptor = co_await call.link->descriptor(key, call.deadline, call.stop);
  if (!descriptor) {
    co_return std::unexpected(descriptor.error().wrap(
        fmt::format("endpoint {}: the file {} did not come with its registration", name, rpc::inode_url(key))));
  }
  if (auto fit = check_socket(*descriptor); !fit) co_return std::unexpected(fit.error().wrap("endpoint " + name));
  co_return descriptor;
}

Task<Result<NetworkServiceEndpoint>> RegistryDescriptors::enroll(RegistryCall& call, NetworkServiceEndpoint endpoint) {
  const auto key = rpc::parse_inode_url(endpoint.url());
  const std::string name = endpoint.name();
  std::optional<rpc::Descriptor> before;
  if (const auto held = held_.find(name); held != held_.end()) before = held->second;
  if (key) {
    auto descriptor = co_await received(call, name, *key);
    if (!descriptor) co_return std::unexpected(descriptor.error());
    held_.insert_or_assign(name, std::move(*descriptor));
  }
  auto stored = co_await next().enroll(call, std::move(endpoint));
  if (stored && !key) held_.erase(name);
  if (!stored && before) held_.insert_or_assign(name, *before);
  if (!stored && !before) held_.erase(name);
  co_return stored;
}

Task<Result<void>> RegistryDescriptors::withdraw(RegistryCall& call, NetworkServiceEndpoint endpoint) {
  const std::string name = endpoint.name();
  auto done = co_await next().withdraw(call, std::move(endpoint));
  held_.erase(name);
  co_return done;
}

Task<Result<RegistryDescriptors::Stream>> RegistryDescriptors::find(RegistryCall& call, Query query) {
  const bool other_process = call.link != nullptr;
  auto stream = co_await next().find(call, std::move(query));
  if (!stream) co_return stream;
  co_return std::make_unique<MappedStream<Endpoints>>(
      std::move(*stream), [this, other_process](Found<Endpoints> found) -> std::optional<Found<Endpoints>> {
        NetworkServiceEndpoint& endpoint = Endpoints::record(found.response);
        if (const auto key = rpc::parse_inode_url(endpoint.url())) {
          const auto held = held_.find(endpoint.name());
          if (held != held_.end() && held->second.key() == *key) found.socket = held->second;
        } else if (other_process && endpoint.url().starts_with("unix:")) {
          const auto url = rpc::parse_url(endpoint.url());
          auto opened = url ? rpc::Descriptor::open(url->path) : Result<rpc::Descriptor>(std::unexpected(url.error()));
          if (opened) {
            endpoint.set_url(opened->url());
            found.socket = std::move(*opened);
          }
        }
        return found;
      });
}

}  // namespace mesh
