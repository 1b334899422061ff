// SPDX-License-Identifier: Apache-2.0
#include "apps/endpoint_role.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "apps/advertise.h"
#include "apps/endpoint_options.h"
#include "base/log.h"
#include "mesh/chains/endpoint.h"
#include "mesh/elements/client_info/client_info.h"
#include "mesh/elements/registry_enrolment/registry_enrolment.h"
#include "mesh/elements/registry_remote/registry_remote.h"

namespace apps {

using base::Result;
using base::Task;

namespace {

// Where the socket is made. The manager gets it as a file, so its path goes again as soon as it is open: nothing is
// left behind, however the process ends.
class SocketDirectory {
 public:
  static Result<SocketDirectory> make() {
    const char* base_directory = std::getenv("TMPDIR");
    std::string path = std::string(base_directory == nullptr ? "/tmp" : base_directory) + "/patchbay-endpoint-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return base::fail_errno(errno, "cannot make a directory like " + path);
    return SocketDirectory(std::move(path));
  }
  SocketDirectory(SocketDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  SocketDirectory& operator=(SocketDirectory&&) = delete;
  ~SocketDirectory() { remove(); }
  void remove() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    path_.clear();
  }
  std::string url() const { return "unix://" + path_ + "/listen.on"; }

 private:
  explicit SocketDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

mesh::EnrolmentPlan plan_of(const EndpointOptions& options) {
  mesh::EnrolmentPlan plan;
  plan.endpoint.set_name(options.name);
  const auto info = mesh::read_client_info(base::process_environment());
  for (const std::string& service : options.service_names) {
    plan.endpoint.add_network_service_names(service);
    auto& labels = *(*plan.endpoint.mutable_network_service_labels())[service].mutable_labels();
    for (const auto& [key, value] : options.labels) labels[key] = value;
    mesh::add_labels(info, labels);
    if (!options.register_service) continue;
    mesh::NetworkService offered;
    offered.set_name(service);
    offered.set_payload(options.payload);
    plan.services.push_back(std::move(offered));
  }
  return plan;
}

Task<int> icmp_responder(const EndpointOptions& options, Process& process, base::StopToken stop) {
  auto network_namespace = rpc::Descriptor::open("/proc/self/ns/net");
  if (!network_namespace) co_return failed(network_namespace.error());
  auto addresses = mesh::PointToPointIpam::make(options.cidr_groups, options.policy());
  if (!addresses) co_return failed(addresses.error().wrap("NSM_CIDR_PREFIX"));
  auto directory = SocketDirectory::make();
  if (!directory) co_return failed(directory.error());

  base::StopSource idle;
  mesh::Endpoint endpoint({.scheduler = process.loop,
                           .random = process.random,
                           .transport = process.transport,
                           .tokens = process.tokens,
                           .name = options.name,
                           .network_namespace = *network_namespace,
                           .addresses = *addresses,
                           .dns_configs = options.dns_configs,
                           .idle_timeout = options.idle_timeout,
                           .idle =
                               [&idle] {
                                 base::log::info("no connection for NSM_IDLE_TIMEOUT: ending");
                                 idle.request_stop();
                               },
                           .authorization = process.security.authorization()});
  auto listeners = listen_on(process.transport, {directory->url()}, endpoint.services());
  if (!listeners) co_return failed(listeners.error());

  mesh::RegistryRemote<mesh::Services> services(process.transport, options.connect_to,
                                                process.security.authorization());
  mesh::RegistryRemote<mesh::Endpoints> endpoints(process.transport, options.connect_to,
                                                  process.security.authorization());
  mesh::EnrolmentPlan plan = plan_of(options);
  if (auto advertised = advertise(*listeners, options.connect_to, plan); !advertised)
    co_return failed(advertised.error());
  if (plan.socket) directory->remove();
  mesh::RegistryEnrolment enrolment(process.loop, services, endpoints, std::move(plan));
  base::TaskScope registering(process.loop);
  registering.spawn(register_with(enrolment, options.connect_to));
  base::log::info("endpoint {} is up", options.name);

  auto stopped = stop.on_stop([&idle] { idle.request_stop(); });
  co_await base::sleep_until(process.loop, base::kNoDeadline, idle.token());
  if (options.unregister_itself) {
    auto withdrawn = co_await enrolment.withdraw();
    if (!withdrawn) base::log::warning("unregistering failed: {}", withdrawn.error().message());
  } else {
    co_await enrolment.finish();
  }
  co_await registering.finish();
  co_await endpoint.finish();
  co_await finish_all(*listeners);
  co_return kSuccess;
}

}  // namespace

int run_icmp_responder() {
  const auto options = read_endpoint_options(base::process_environment());
  if (!options) {
    fmt::print(stderr, "patchbay endpoint: {}\n", options.error().message());
    return kFailure;
  }
  Process process({options->name, options->log_level, options->max_token_lifetime, options->security});
  return process.run([&options](Process& running, base::StopToken stop) {
    return icmp_responder(*options, running, std::move(stop));
  });
}

}  // namespace apps
