// SPDX-License-Identifier: Apache-2.0
// Names with an '@' belong to another domain: calls about them go to the proxy registry instead of the store.
//
// Changes and keeps nothing. Without a proxy such calls fail and say which option is missing.
#pragma once

#include <algorithm>

#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

inline bool foreign(const NetworkService& service) { return service.name().find('@') != std::string::npos; }
inline bool foreign(const NetworkServiceEndpoint& endpoint) {
  return endpoint.name().find('@') != std::string::npos ||
         std::ranges::any_of(endpoint.network_service_names(),
                             [](const std::string& name) { return name.find('@') != std::string::npos; });
}

template <typename Kind>
class RegistryProxy final : public RegistryElement<Kind> {
 public:
  using Record = typename Kind::Record;
  using Query = typename Kind::Query;
  using Stream = typename Registry<Kind>::Stream;

  // proxy: none if there is no way to other domains. Must outlive the element.
  explicit RegistryProxy(Registry<Kind>* proxy) : proxy_(proxy) {}

  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    if (!foreign(record)) co_return co_await this->next().enroll(call, std::move(record));
    if (proxy_ == nullptr) co_return refuse(record);
    co_return co_await proxy_->enroll(call, std::move(record));
  }
  base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) override {
    if (!foreign(record)) co_return co_await this->next().withdraw(call, std::move(record));
    if (proxy_ == nullptr) co_return refuse(record);
    co_return co_await proxy_->withdraw(call, std::move(record));
  }
  base::Task<base::Result<Stream>> find(RegistryCall& call, Query query) override {
    if (!foreign(Kind::record(query))) co_return co_await this->next().find(call, std::move(query));
    if (proxy_ == nullptr) co_return refuse(Kind::record(query));
    co_return co_await proxy_->find(call, std::move(query));
  }

 private:
  static std::unexpected<base::Error> refuse(const Record& record) {
    return base::fail(
        base::Code::failed_precondition,
        "{} '{}' belongs to another domain ('@') and this registry has no way there: set NSM_PROXY_REGISTRY_URL",
        Kind::kNoun, record.name());
  }

  Registry<Kind>* proxy_;
};

}  // namespace mesh
