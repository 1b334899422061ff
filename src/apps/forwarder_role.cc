// SPDX-License-Identifier: Apache-2.0
#include "apps/forwarder_role.h"

#include <algorithm>

#include "apps/advertise.h"
#include "base/log.h"
#include "forwarder/forwarder.h"
#include "forwarder/kernel_plane.h"
#include "kernel/privileges.h"
#include "mesh/elements/client_info/client_info.h"
#include "mesh/elements/registry_enrolment/registry_enrolment.h"
#include "mesh/elements/registry_remote/registry_remote.h"

namespace apps {

using base::Task;

namespace {

constexpr std::uint16_t kVxlanPort = 4789;

}  // namespace

std::vector<base::Option> forwarder_options(ForwarderOptions& options) {
  auto list = common_options(options.common, "forwarder");
  list.push_back(
      base::option("NSM_LABELS", &options.labels, "p2p:true", "labels it registers with, as key:value,key:value"));
  list.push_back(base::option("NSM_NSNAME", &options.service, "forwarder", "the network service it registers as"));
  list.push_back(
      base::option("NSM_CONNECT_TO", &options.connect_to, "unix:///connect.to.socket", "the node's manager"));
  list.push_back(base::option("NSM_LISTEN_ON", &options.listen_on, "unix:///listen.on.socket", "URLs to serve on"));
  list.push_back(
      base::option("NSM_TUNNEL_IP", &options.tunnel_ip, "",
                   "this node's address for tunnels; unset: the first global one of the default route's device"));
  list.push_back(base::option("NSM_VXLAN_PORT", &options.vxlan_port, "0",
                              "UDP port of VXLAN tunnels, the same on all nodes; 0: 4789"));
  list.push_back(
      base::option("NSM_MECHANISM_PRIORITY", &options.mechanism_priority, "", "mechanism types to offer first"));
  list.push_back(
      base::choice_option("FORWARDING_PLANE", &options.plane, {"auto", "xdp", "kernel"}, "auto",
                          "who carries packets; auto takes the shortest path there is, today always the kernel"));
  list.push_back(base::option("PATCHBAY_ALLOW_PLAINTEXT_IP", &options.allow_plaintext_ip, "false",
                              "carry IP payload between nodes unencrypted, between Patchbay forwarders only"));
  return list;
}

namespace {

Task<int> run(const ForwarderOptions& options, Process& process, base::StopToken stop) {
  if (options.plane == "xdp") {
    co_return failed(
        {base::Code::unimplemented,
         "FORWARDING_PLANE is 'xdp', but this build has no vector plane: use kernel, or auto, which takes it"});
  }
  if (auto allowed = kernel::check_privileges(); !allowed) co_return failed(allowed.error());
  auto underlay = forwarder::find_underlay(options.tunnel_ip);
  if (!underlay) co_return failed(underlay.error().wrap("NSM_TUNNEL_IP"));

  mesh::RegistryRemote<mesh::Services> services(process.transport, options.connect_to,
                                                process.security.authorization());
  mesh::RegistryRemote<mesh::Endpoints> endpoints(process.transport, options.connect_to,
                                                  process.security.authorization());
  forwarder::KernelPlane plane(process.loop, options.common.name);
  forwarder::CrossingOptions crossing;
  crossing.underlay = *underlay;
  crossing.vxlan_port = options.vxlan_port == 0 ? kVxlanPort : options.vxlan_port;
  crossing.allow_plaintext_ip = options.allow_plaintext_ip;
  for (std::string type : options.mechanism_priority) {
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    crossing.priority.push_back(std::move(type));
  }
  if (options.allow_plaintext_ip) {
    base::log::warning("PATCHBAY_ALLOW_PLAINTEXT_IP is set: IP payload between nodes is not encrypted");
  }
  forwarder::Forwarder forwarder({.scheduler = process.loop,
                                  .random = process.random,
                                  .transport = process.transport,
                                  .tokens = process.tokens,
                                  .services = services,
                                  .endpoints = endpoints,
                                  .plane = plane,
                                  .name = options.common.name,
                                  .crossing = crossing,
                                  .max_token_lifetime = options.common.max_token_lifetime,
                                  .authorization = process.security.authorization()});
  auto listeners = listen_on(process.transport, options.listen_on, forwarder.services());
  if (!listeners) co_return failed(listeners.error());
  co_await forwarder.start();

  mesh::EnrolmentPlan plan;
  plan.endpoint.set_name(options.common.name);
  plan.endpoint.add_network_service_names(options.service);
  auto& labels = *(*plan.endpoint.mutable_network_service_labels())[options.service].mutable_labels();
  for (const auto& [key, value] : options.labels) labels[key] = value;
  mesh::add_labels(mesh::read_client_info(base::process_environment()), labels);
  auto advertised = advertise(*listeners, options.connect_to, plan);
  if (!advertised) co_return failed(advertised.error());
  mesh::RegistryEnrolment enrolment(process.loop, services, endpoints, plan);
  base::TaskScope registering(process.loop);
  registering.spawn(register_with(enrolment, options.connect_to));
  base::log::info("forwarder {} is up: plane kernel, tunnels from {}, underlay MTU {}", options.common.name,
                  underlay->address.to_string(), underlay->mtu);

  co_await base::sleep_until(process.loop, base::kNoDeadline, stop);
  co_await enrolment.finish();
  co_await registering.finish();
  co_await forwarder.finish();
  co_await finish_all(*listeners);
  co_return kSuccess;
}

}  // namespace

int run_forwarder() {
  ForwarderOptions options;
  const auto list = forwarder_options(options);
  if (!read_options(list)) return kFailure;
  Process process(options.common);
  return process.run(
      [&options](Process& running, base::StopToken stop) { return run(options, running, std::move(stop)); });
}

}  // namespace apps
