// SPDX-License-Identifier: Apache-2.0
#include "apps/manager_role.h"

#include "base/log.h"
#include "mesh/chains/manager.h"
#include "mesh/elements/registry_remote/registry_remote.h"
#include "registry/memory_registry.h"

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

Task<int> manager(const ManagerOptions& options, Process& process, base::StopToken stop) {
  const auto url = public_url(options.listen_on);
  if (!url) co_return failed(url.error());

  registry::MemoryRegistry<mesh::Services> own_services(process.loop);
  registry::MemoryRegistry<mesh::Endpoints> own_endpoints(process.loop);
  mesh::RegistryRemote<mesh::Services> remote_services(process.transport, options.registry_url);
  mesh::RegistryRemote<mesh::Endpoints> remote_endpoints(process.transport, options.registry_url);

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
                           .excluded_prefixes = mesh::PrefixFile(process.loop, mesh::kExcludedPrefixesFile)};
  mesh::Manager manager(parts);
  auto listeners = listen_on(process.transport, options.listen_on, manager.services());
  if (!listeners) co_return failed(listeners.error());
  base::log::info("manager {} is up; other nodes reach it at {}", options.common.name, *url);

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
  return process.run([&options](Process& running, base::StopToken stop) { return manager(options, running, std::move(stop)); });
}

}  // namespace apps
