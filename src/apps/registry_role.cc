// SPDX-License-Identifier: Apache-2.0
#include "apps/registry_role.h"

#include <csignal>

#include "mesh/chains/serving.h"
#include "mesh/elements/registry_service/registry_service.h"
#include "rpc/http2/transport.h"

namespace apps {

using base::Result;
using base::Task;

namespace log = base::log;

namespace {

constexpr const char* kSubject = "registry";  // what tokens without identity say

mesh::RegistryChainParts parts(base::EventLoop& loop, mesh::TokenSource& tokens, mesh::ServiceRegistry& services,
                               mesh::EndpointRegistry& endpoints, mesh::ServiceRegistry* proxy_services,
                               mesh::EndpointRegistry* proxy_endpoints) {
  return {loop, tokens, services, endpoints, proxy_services, proxy_endpoints};
}

}  // namespace

std::vector<base::Option> registry_options(RegistryConfig& config) {
  return {
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
}

Result<std::unique_ptr<RegistryRole>> RegistryRole::make(base::EventLoop& loop, rpc::Transport& transport,
                                                         mesh::TokenSource& tokens, const RegistryConfig& config) {
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
  return std::unique_ptr<RegistryRole>(new RegistryRole(loop, transport, tokens, config, std::move(sqlite)));
}

RegistryRole::RegistryRole(base::EventLoop& loop, rpc::Transport& transport, mesh::TokenSource& tokens,
                           const RegistryConfig& config, std::unique_ptr<registry::SqliteRegistry> sqlite)
    : transport_(transport),
      listen_on_(config.listen_on),
      sqlite_(std::move(sqlite)),
      memory_(sqlite_ ? std::nullopt : std::optional<MemoryStore>(std::in_place, loop)),
      proxy_(config.proxy_registry_url.empty()
                 ? std::nullopt
                 : std::optional<Proxy>(std::in_place, transport, config.proxy_registry_url)),
      chain_(parts(loop, tokens, sqlite_ ? sqlite_->services() : memory_->services,
                   sqlite_ ? sqlite_->endpoints() : memory_->endpoints, proxy_ ? &proxy_->services : nullptr,
                   proxy_ ? &proxy_->endpoints : nullptr)) {
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

Task<void> begin(RegistryRole& role, base::EventLoop& loop, int& code) {
  if (auto started = co_await role.start(); !started) {
    log::error("the registry cannot start: {}", started.error().message());
    code = 1;
    co_await role.finish();
    loop.quit();
  }
}

Task<void> end(RegistryRole& role, base::EventLoop& loop) {
  co_await role.finish();
  loop.quit();
}

}  // namespace

int run_registry(const base::Environment& environment) {
  log::set_name("registry");
  RegistryConfig config;
  const auto options = registry_options(config);
  log::debug("options:\n{}", base::usage_table(options));
  if (auto read = base::read_environment(options, environment); !read) {
    log::error("the registry cannot start: {}", read.error().message());
    return 1;
  }
  log::set_level(config.log_level);

  base::EventLoop loop;
  mesh::PlainTokens tokens(loop, kSubject, config.max_token_lifetime);
  mesh::TokenCredentials credentials(tokens);
  rpc::http2::Plaintext security;
  rpc::http2::Transport transport(loop, credentials, security);
  auto role = RegistryRole::make(loop, transport, tokens, config);
  if (!role) {
    log::error("the registry cannot start: {}", role.error().message());
    return 1;
  }

  int code = 0;
  bool ending = false;
  loop.on_signals({SIGINT, SIGTERM, SIGQUIT, SIGHUP}, [&](int) {
    if (std::exchange(ending, true)) return loop.quit();  // the second one does not wait
    base::spawn_detached(end(**role, loop));
  });
  loop.on_signals({SIGUSR1, SIGUSR2},
                  [&](int signal) { log::set_level(signal == SIGUSR1 ? log::Level::trace : config.log_level); });
  base::spawn_detached(begin(**role, loop, code));
  loop.run();
  return code;
}

}  // namespace apps
