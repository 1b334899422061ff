// SPDX-License-Identifier: Apache-2.0
#include "apps/registry_role.h"

#include "apps/process.h"
#include "mesh/chains/serving.h"
#include "mesh/elements/registry_service/registry_service.h"

namespace apps {

using base::Result;
using base::Task;

namespace log = base::log;

namespace {

mesh::RegistryChainParts parts(base::EventLoop& loop, mesh::TokenSource& tokens, mesh::ServiceRegistry& services,
                               mesh::EndpointRegistry& endpoints, mesh::ServiceRegistry* proxy_services,
                               mesh::EndpointRegistry* proxy_endpoints, mesh::Authorization* authorization) {
  return {loop, tokens, services, endpoints, proxy_services, proxy_endpoints, authorization};
}

}  // namespace

std::vector<base::Option> registry_options(RegistryConfig& config) {
  std::vector<base::Option> table{
      base::option("NSM_LISTEN_ON", &config.listen_on, "unix:///listen.on.socket", "URLs to listen on"),
      base::option("NSM_MAX_TOKEN_LIFETIME", &config.max_token_lifetime, "10m",
                   "longest life of a token this registry issues"),
      base::option("NSM_PROXY_REGISTRY_URL", &config.proxy_registry_url, "",
                   "registry that names with an '@' are passed to; none: they are refused"),
      base::option("NSM_LOG_LEVEL", &config.log_level, "INFO", "least severe level that is logged"),
      base::choice_option("PATCHBAY_REGISTRY_STORE", &config.store, {"sqlite", "memory"}, "sqlite",
                          "where registrations are kept: in a file, or in memory until the process ends"),
      base::option("PATCHBAY_REGISTRY_FILE", &config.file, "/var/lib/patchbay/registry.sqlite",
                   "the file, if they are kept in one"),
  };
  for (auto& one : security_options(config.security)) table.push_back(std::move(one));
  return table;
}

Result<std::unique_ptr<RegistryRole>> RegistryRole::make(base::EventLoop& loop, rpc::Transport& transport,
                                                         mesh::TokenSource& tokens, const RegistryConfig& config,
                                                         mesh::Authorization* authorization) {
  if (config.listen_on.empty()) {
    return base::fail(base::Code::invalid_argument,
                      "NSM_LISTEN_ON is empty: name at least one URL, such as tcp://:5002");
  }
  std::unique_ptr<registry::SqliteRegistry> sqlite;
  if (config.store == "sqlite") {
    auto opened = registry::SqliteRegistry::open(loop, config.file);
    if (!opened) return std::unexpected(opened.error());
    sqlite = std::move(*opened);
  }
  return std::unique_ptr<RegistryRole>(
      new RegistryRole(loop, transport, tokens, config, authorization, std::move(sqlite)));
}

RegistryRole::RegistryRole(base::EventLoop& loop, rpc::Transport& transport, mesh::TokenSource& tokens,
                           const RegistryConfig& config, mesh::Authorization* authorization,
                           std::unique_ptr<registry::SqliteRegistry> sqlite)
    : transport_(transport),
      listen_on_(config.listen_on),
      sqlite_(std::move(sqlite)),
      memory_(sqlite_ ? std::nullopt : std::optional<MemoryStore>(std::in_place, loop)),
      proxy_(config.proxy_registry_url.empty()
                 ? std::nullopt
                 : std::optional<Proxy>(std::in_place, transport, config.proxy_registry_url, authorization)),
      chain_(parts(loop, tokens, sqlite_ ? sqlite_->services() : memory_->services,
                   sqlite_ ? sqlite_->endpoints() : memory_->endpoints, proxy_ ? &proxy_->services : nullptr,
                   proxy_ ? &proxy_->endpoints : nullptr, authorization)) {
  mesh::serve_registry(services_, loop, chain_.services());
  mesh::serve_registry(services_, loop, chain_.endpoints());
  mesh::serve_health(services_, loop, {"registry.NetworkServiceRegistry", "registry.NetworkServiceEndpointRegistry"});
}

Task<Result<void>> RegistryRole::start() {
  if (auto adopted = co_await chain_.start(); !adopted) co_return adopted;
  for (const std::string& url : listen_on_) {
    auto listener = transport_.listen(url, services_);
    if (!listener) co_return std::unexpected(listener.error());
    log::info("the registry listens on {}", (*listener)->url());
    listeners_.push_back(std::move(*listener));
  }
  co_return Result<void>();
}

Task<void> RegistryRole::finish() {
  for (const auto& listener : listeners_) co_await listener->finish();
  listeners_.clear();
  co_await chain_.finish();
}

std::vector<std::string> RegistryRole::urls() const {
  std::vector<std::string> all;
  for (const auto& listener : listeners_) all.push_back(listener->url());
  return all;
}

namespace {

Task<int> serve(const RegistryConfig& config, Process& process, base::StopToken stop) {
  auto role =
      RegistryRole::make(process.loop, process.transport, process.tokens, config, process.security.authorization());
  if (!role) co_return failed(role.error());
  auto started = co_await (*role)->start();
  if (started) co_await base::sleep_until(process.loop, base::kNoDeadline, stop);
  co_await (*role)->finish();
  co_return started ? kSuccess : failed(started.error());
}

}  // namespace

int run_registry(const base::Environment& environment) {
  RegistryConfig config;
  const auto options = registry_options(config);
  if (!read_options(options, environment)) return kFailure;
  Process process({"registry", config.log_level, config.max_token_lifetime, config.security});
  return process.run(
      [&config](Process& running, base::StopToken stop) { return serve(config, running, std::move(stop)); });
}

}  // namespace apps
