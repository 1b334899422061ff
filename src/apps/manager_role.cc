// SPDX-License-Identifier: Apache-2.0
#include "apps/manager_role.h"

#include "base/log.h"
#include "mesh/chains/manager.h"
#include "mesh/elements/registry_remote/registry_remote.h"
#include "registry/memory_registry.h"
#include "rpc/url.h"

namespace apps {

using base::Task;

std::vector<base::Option> manager_options(ManagerOptions& options) {
  auto list = common_options(options.common, "nmgr");
  list.push_back(base::option("NSM_LISTEN_ON", &options.listen_on, "unix:///var/lib/networkservicemesh/nsm.io.sock",
                              "URLs to serve on, separated by commas; the first tcp:// one is what other nodes dial"));
  list.push_back(base::option("NSM_REGISTRY_URL", &options.registry_url, "tcp://localhost:5001",
                              "the mesh's registry; set but empty: a registry of this process's own, in memory"));
  list.push_back(base::option("NSM_FORWARDER_NETWORK_SERVICE_NAME", &options.forwarder_service, "forwarder",
                              "the network service that forwarders register as"));
  return list;
}

namespace {

// A manager that is its own registry would wait for itself for ever; NSM's default URL has the manager's usual port.
base::Result<void> check_registry_url(const ManagerOptions& options, const std::string& own_url) {
  if (options.registry_url.empty()) return {};
  auto registry = rpc::parse_url(options.registry_url);
  if (!registry) return std::unexpected(registry.error().wrap("NSM_REGISTRY_URL"));
  auto own = rpc::parse_url(own_url);
  if (!own) return std::unexpected(own.error());
  const bool same_port =
      registry->scheme == rpc::UrlScheme::tcp && own->scheme == rpc::UrlScheme::tcp && registry->port == own->port;
  const bool here = registry->host == own->host || registry->host == "localhost" || registry->host == "127.0.0.1" ||
                    registry->host == "::1";
  if (registry->text == own->text || (same_port && here)) {
    return base::fail(
        base::Code::invalid_argument,
        "NSM_REGISTRY_URL is {}, which is this manager itself: name the mesh's registry, or set it empty for one "
        "of the manager's own",
        options.registry_url);
  }
  return {};
}

Task<int> manager(const ManagerOptions& options, Process& process, base::StopToken stop) {
  const auto url = public_url(options.listen_on);
  if (!url) co_return failed(url.error());

  if (auto sane = check_registry_url(options, *url); !sane) co_return failed(sane.error());
  registry::MemoryRegistry<mesh::Services> own_services(process.loop);
  registry::MemoryRegistry<mesh::Endpoints> own_endpoints(process.loop);
  mesh::RegistryRemote<mesh::Services> remote_services(process.transport, options.registry_url,
                                                       process.security.authorization());
  mesh::RegistryRemote<mesh::Endpoints> remote_endpoints(process.transport, options.registry_url,
                                                         process.security.authorization());

  const bool own = options.registry_url.empty();
  mesh::ManagerParts parts{.scheduler = process.loop,
                           .random = process.random,
                           .transport = process.transport,
                           .tokens = process.tokens,
                           .services = own ? static_cast<mesh::ServiceRegistry&>(own_services) : remote_services,
                           .endpoints = own ? static_cast<mesh::EndpointRegistry&>(own_endpoints) : remote_endpoints,
                           .name = options.common.name,
                           .public_url = *url,
                           .forwarder_service = options.forwarder_service,
                           .client_info = mesh::read_client_info(base::process_environment()),
                           .excluded_prefixes = mesh::PrefixFile(process.loop, mesh::kExcludedPrefixesFile),
                           .authorization = process.security.authorization()};
  mesh::Manager manager(parts);
  auto listeners = listen_on(process.transport, options.listen_on, manager.services());
  if (!listeners) co_return failed(listeners.error());
  if (url->starts_with("unix:")) {
    base::log::info("manager {} is up, for this node alone: NSM_LISTEN_ON has no tcp:// URL for others",
                    options.common.name);
  } else {
    base::log::info("manager {} is up; other nodes reach it at {}", options.common.name, *url);
  }

  co_await base::sleep_until(process.loop, base::kNoDeadline, stop);
  co_await manager.finish();
  co_await finish_all(*listeners);
  co_return kSuccess;
}

}  // namespace

int run_manager() {
  ManagerOptions options;
  const auto list = manager_options(options);
  if (!read_options(list)) return kFailure;
  Process process(options.common);
  return process.run(
      [&options](Process& running, base::StopToken stop) { return manager(options, running, std::move(stop)); });
}

}  // namespace apps
