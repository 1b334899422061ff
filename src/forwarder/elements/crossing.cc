// SPDX-License-Identifier: Apache-2.0
#include "forwarder/elements/crossing.h"

#include <algorithm>

#include "base/log.h"
#include "forwarder/elements/vxlan_mechanism.h"
#include "mesh/elements/descriptors/held_descriptors.h"
#include "mesh/elements/mtu/mtu.h"

namespace forwarder {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using mesh::Connection;
using mesh::Mechanism;

namespace {

struct Crossed {
  std::optional<Mechanism> client;  // shared with the next hop
  bool plugged = false;
};

Mechanism make_mechanism(std::string_view cls, std::string_view type) {
  Mechanism mechanism;
  mechanism.set_cls(std::string(cls));
  mechanism.set_type(std::string(type));
  return mechanism;
}

bool is_vxlan(const Mechanism& mechanism) {
  return mechanism.type() == mesh::kVxlan || mechanism.type() == kPlainVxlan;
}

Result<WireEnd> wire_end(const mesh::HeldDescriptors& held, const Mechanism& mechanism, Side local_side) {
  if (is_vxlan(mechanism)) {
    auto tunnel = vxlan_end(mechanism, local_side);
    if (!tunnel) return std::unexpected(tunnel.error());
    return *tunnel;
  }
  if (mechanism.type() != mesh::kKernel) {
    return fail(Code::unimplemented, "mechanism {} is not one this forwarder can plug: it has KERNEL and VXLAN",
                mechanism.type());
  }
  const std::string url = mesh::mechanism_parameter(mechanism, mesh::parameter::kInodeUrl);
  auto netns = held.find(url);
  if (!netns) {
    return fail(Code::invalid_argument, "mechanism KERNEL names the namespace '{}', but that file was not passed along",
                url);
  }
  return KernelEnd(*netns, mesh::mechanism_parameter(mechanism, mesh::parameter::kName));
}

void report(google::protobuf::Map<std::string, std::string>& metrics, const std::string& prefix,
            const EndCounters& counters) {
  metrics[prefix + "rx_packets"] = std::to_string(counters.rx_packets);
  metrics[prefix + "rx_bytes"] = std::to_string(counters.rx_bytes);
  metrics[prefix + "tx_packets"] = std::to_string(counters.tx_packets);
  metrics[prefix + "tx_bytes"] = std::to_string(counters.tx_bytes);
  metrics[prefix + "drops"] = std::to_string(counters.drops);
}

}  // namespace

Result<std::vector<Mechanism>> Crossing::offers(const mesh::NextHop& hop, const Connection& connection) const {
  std::vector<Mechanism> offered;
  if (hop.local()) {
    offered.push_back(make_mechanism(mesh::kLocal, mesh::kKernel));
  } else {
    const bool ethernet = connection.payload() == mesh::kPayloadEthernet;
    if (!ethernet && !options_.allow_plaintext_ip) {
      return fail(
          Code::failed_precondition,
          "service {} carries IP to another node, which has to be encrypted: this kernel has no WireGuard. Use payload "
          "ETHERNET, or accept unencrypted packets with PATCHBAY_ALLOW_PLAINTEXT_IP=true on both forwarders",
          connection.network_service());
    }
    Mechanism tunnel = make_mechanism(mesh::kRemote, ethernet ? mesh::kVxlan : kPlainVxlan);
    auto& parameters = *tunnel.mutable_parameters();
    parameters[mesh::parameter::kSrcIp] = options_.underlay.address.to_string();
    parameters[mesh::parameter::kSrcPort] = std::to_string(options_.vxlan_port);
    parameters[mesh::parameter::kMtu] = std::to_string(vxlan_mtu(options_.underlay));
    if (!ethernet) {
      base::log::warning("{} carries IP to another node unencrypted, as PATCHBAY_ALLOW_PLAINTEXT_IP allows",
                         mesh::describe(connection));
    }
    offered.push_back(std::move(tunnel));
  }
  const auto rank = [&](const Mechanism& mechanism) {
    return std::ranges::find(options_.priority, mechanism.type()) - options_.priority.begin();
  };
  std::ranges::stable_sort(offered, {}, rank);
  return offered;
}

Result<WireSpec> Crossing::wire_of(mesh::Call& call, const Connection& answered, const Mechanism& server) const {
  const auto& held = call.state().get<mesh::HeldDescriptors>();
  // Towards the client this forwarder is the tunnel's endpoint side, and the other way round.
  auto client = wire_end(held, server, Side::endpoint);
  if (!client) return std::unexpected(client.error());
  auto endpoint = wire_end(held, answered.mechanism(), Side::client);
  if (!endpoint) return std::unexpected(endpoint.error());
  WireSpec wire(answered.id(), std::move(*client), std::move(*endpoint));
  wire.payload = answered.payload();
  wire.context = answered.context();
  return wire;
}

Task<Result<Connection>> Crossing::request(mesh::Call& call, mesh::NetworkServiceRequest request) {
  const auto state = call.context().state;
  const mesh::NextHop hop = state->get<mesh::NextHop>();
  Connection& connection = *request.mutable_connection();
  const Mechanism server = connection.mechanism();

  auto offered = offers(hop, connection);
  if (!offered) co_return std::unexpected(offered.error());
  request.clear_mechanism_preferences();
  for (const Mechanism& mechanism : *offered) *request.add_mechanism_preferences() = mechanism;
  auto& crossed = state->get<Crossed>();
  if (crossed.client && (crossed.client->cls() == mesh::kLocal) == hop.local()) {
    *connection.mutable_mechanism() = *crossed.client;
  } else {
    connection.clear_mechanism();
  }
  auto& context = *connection.mutable_context();
  const std::uint32_t limit = hop.local() ? mesh::kDefaultMtu : vxlan_mtu(options_.underlay);
  context.set_mtu(mesh::lower_mtu(context.mtu(), limit));

  auto answered = co_await call.next(std::move(request));
  if (!answered) co_return answered;
  answered->mutable_context()->set_mtu(mesh::lower_mtu(answered->context().mtu(), limit));

  auto wire = wire_of(call, *answered, server);
  // Else another node could answer with a file that a client of this one brought.
  const std::string& chosen = answered->mechanism().type();
  if (std::ranges::find(*offered, chosen, &Mechanism::type) == offered->end()) {
    wire = fail(Code::invalid_argument, "the next hop chose mechanism '{}': it has to choose one that it was offered",
                chosen);
  }
  Result<void> plugged;
  if (wire) {
    plugged = co_await plane_.plug(std::move(*wire));
  } else {
    plugged = std::unexpected(wire.error());
  }
  if (!plugged) {
    co_await call.undo_below(*answered);
    co_return std::unexpected(plugged.error().wrap("plugging " + mesh::describe(*answered)));
  }
  crossed.plugged = true;
  crossed.client = answered->mechanism();

  auto& metrics =
      *answered->mutable_path()->mutable_path_segments(static_cast<int>(answered->path().index()))->mutable_metrics();
  const auto interface = [](const Mechanism& mechanism) {
    const std::string name = mesh::mechanism_parameter(mechanism, mesh::parameter::kName);
    return mechanism.type() + "/" +
           (name.empty() ? "vni-" + mesh::mechanism_parameter(mechanism, mesh::parameter::kVni) : name);
  };
  metrics["server_interface"] = interface(server);
  metrics["client_interface"] = interface(answered->mechanism());
  if (call.context().established) {
    const auto at_client = co_await plane_.counters(answered->id(), Side::client);
    if (at_client) report(metrics, "server_", *at_client);
    const auto at_endpoint = co_await plane_.counters(answered->id(), Side::endpoint);
    if (at_endpoint) report(metrics, "client_", *at_endpoint);
  }
  *answered->mutable_mechanism() = server;
  co_return answered;
}

Task<Result<void>> Crossing::close(mesh::Call& call, Connection connection) {
  auto& crossed = call.state().get<Crossed>();
  Result<void> unplugged;
  if (crossed.plugged) {
    unplugged = co_await plane_.unplug(connection.id());
    if (!unplugged) base::log::error("unplugging {}: {}", mesh::describe(connection), unplugged.error().message());
    crossed.plugged = !unplugged;
  }
  if (crossed.client) *connection.mutable_mechanism() = *crossed.client;
  auto closed = co_await call.next_close(std::move(connection));
  co_return closed ? unplugged : closed;
}

}  // namespace forwarder
