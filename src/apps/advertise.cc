// SPDX-License-Identifier: Apache-2.0
#include "apps/advertise.h"

#include "base/log.h"
#include "rpc/url.h"

namespace apps {

base::Result<void> advertise(const std::vector<std::unique_ptr<rpc::Listener>>& listeners,
                             const std::string& manager_url, mesh::EnrolmentPlan& plan) {
  const auto manager = rpc::parse_url(manager_url);
  if (!manager) return std::unexpected(manager.error().wrap("NSM_CONNECT_TO"));
  std::string tcp;
  for (const auto& listener : listeners) {
    const auto url = rpc::parse_url(listener->url());
    if (!url) return std::unexpected(url.error());
    if (url->scheme == rpc::UrlScheme::unix_socket && manager->local()) {
      auto socket = rpc::Descriptor::open(url->path);
      if (!socket) return std::unexpected(socket.error());
      plan.endpoint.set_url(socket->url());
      plan.socket = std::move(*socket);
      return {};
    }
    if (url->scheme == rpc::UrlScheme::tcp && tcp.empty()) tcp = listener->url();
  }
  if (tcp.empty()) {
    return base::fail(
        base::Code::invalid_argument,
        "the manager at {} cannot reach a unix socket of this process: listen on tcp:// too, or connect to the "
        "manager's unix socket",
        manager_url);
  }
  plan.endpoint.set_url(tcp);
  return {};
}

base::Task<void> register_with(mesh::RegistryEnrolment& enrolment, std::string manager_url) {
  auto registered = co_await enrolment.start();
  if (registered) {
    base::log::info("registered {} at {}", enrolment.registered().name(), manager_url);
  } else {
    base::log::info("not registered at {}: {}", manager_url, registered.error().message());
  }
}

}  // namespace apps
