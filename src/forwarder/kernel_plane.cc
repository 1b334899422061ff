// SPDX-License-Identifier: Apache-2.0
#include "forwarder/kernel_plane.h"

#include <algorithm>

#include "base/log.h"
#include "forwarder/interface_config.h"
#include "kernel/cleanup.h"
#include "kernel/interface.h"
#include "kernel/underlay.h"

namespace forwarder {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

KernelPlane::KernelPlane(base::EventLoop& loop, std::string owner)
    : owner_(std::move(owner)), worker_(loop, "pb-netlink") {}

Task<Result<void>> KernelPlane::plug(WireSpec wire) {
  auto job = [this, wire = std::move(wire)] { return plug_now(wire); };
  co_return co_await worker_.run(std::move(job));
}

Task<Result<void>> KernelPlane::unplug(std::string id) {
  auto job = [this, id = std::move(id)] { return unplug_now(id); };
  co_return co_await worker_.run(std::move(job));
}

Task<Result<std::vector<std::string>>> KernelPlane::plugged() {
  auto job = [this] { return plugged_now(); };
  co_return co_await worker_.run(std::move(job));
}

Task<Result<EndCounters>> KernelPlane::counters(std::string id, Side side) {
  auto job = [this, id = std::move(id), side] { return counters_now(id, side); };
  co_return co_await worker_.run(std::move(job));
}

Result<kernel::Place> KernelPlane::place(const KernelEnd& end) {
  auto netns = namespaces_.from_descriptor(end.netns.fd());
  if (!netns) return std::unexpected(netns.error());
  return kernel::Place{std::move(*netns), end.interface};
}

// Whether the wire is plugged, but with ends in other places than it shall have.
bool KernelPlane::moved(const WireSpec& wire) const {
  const auto known = wires_.find(wire.id);
  if (known == wires_.end()) return false;
  std::vector<std::pair<kernel::NetnsKey, std::string>> wanted;
  for (const WireEnd* end : {&wire.client, &wire.endpoint}) {
    if (const auto* kernel = std::get_if<KernelEnd>(end)) {
      const rpc::InodeKey key = kernel->netns.key();
      wanted.emplace_back(kernel::NetnsKey{key.device, key.inode}, kernel->interface);
    }
  }
  return !std::ranges::equal(known->second.places, wanted, [](const kernel::Place& place, const auto& other) {
    return place.netns->key() == other.first && place.name == other.second;
  });
}

Result<void> KernelPlane::plug_now(const WireSpec& wire) {
  const auto* client = std::get_if<KernelEnd>(&wire.client);
  const auto* endpoint = std::get_if<KernelEnd>(&wire.endpoint);
  if (moved(wire)) {
    if (auto gone = unplug_now(wire.id); !gone) return gone;
  }
  if (client != nullptr && endpoint != nullptr) return plug_veth(wire, *client, *endpoint);
  if (client != nullptr) return plug_vxlan(wire, *client, Side::client, std::get<VxlanEnd>(wire.endpoint));
  if (endpoint != nullptr) return plug_vxlan(wire, *endpoint, Side::endpoint, std::get<VxlanEnd>(wire.client));
  return fail(Code::unimplemented,
              "connection {} would go from one tunnel into another: the kernel plane joins a workload to a tunnel or "
              "to a workload",
              wire.id);
}

Result<void> KernelPlane::plug_veth(const WireSpec& wire, const KernelEnd& client, const KernelEnd& endpoint) {
  auto client_config = interface_config(wire.context, Side::client);
  if (!client_config) return std::unexpected(client_config.error());
  auto endpoint_config = interface_config(wire.context, Side::endpoint);
  if (!endpoint_config) return std::unexpected(endpoint_config.error());
  auto a = place(client);
  if (!a) return std::unexpected(a.error().wrap("the client's namespace"));
  auto b = place(endpoint);
  if (!b) return std::unexpected(b.error().wrap("the endpoint's namespace"));

  const kernel::Mark mark{owner_, wire.id};
  auto pair = wiring_.ensure_veth({mark, *a, *b, wire.context.mtu()});
  if (!pair) return std::unexpected(pair.error());
  wires_[wire.id] = Plugged{{*a, *b}, true, true};
  const auto state = pair->made ? kernel::LinkState::fresh : kernel::LinkState::kept;
  auto applied = kernel::apply(*a->netns, pair->a, *client_config, state);
  if (applied) applied = kernel::apply(*b->netns, pair->b, *endpoint_config, state);
  if (!applied && pair->made) {
    if (auto undone = unplug_now(wire.id); !undone)
      base::log::warning("undoing the wire of {}: {}", wire.id, undone.error().message());
  }
  return applied;
}

Result<void> KernelPlane::plug_vxlan(const WireSpec& wire, const KernelEnd& workload, Side side,
                                     const VxlanEnd& tunnel) {
  auto config = interface_config(wire.context, side);
  if (!config) return std::unexpected(config.error());
  auto there = place(workload);
  if (!there) return std::unexpected(there.error().wrap("the workload's namespace"));
  auto here = namespaces_.current();
  if (!here) return std::unexpected(here.error());

  kernel::VxlanRequest request;
  request.mark = {owner_, wire.id};
  request.place = *there;
  request.underlay = *here;
  request.vni = tunnel.vni;
  request.local = tunnel.local;
  request.remote = tunnel.remote;
  request.port = tunnel.port;
  request.mtu = wire.context.mtu();
  auto device = wiring_.ensure_vxlan(request);
  if (!device) return std::unexpected(device.error());
  wires_[wire.id] = Plugged{{*there}, side == Side::client, side == Side::endpoint};
  auto applied = kernel::apply(*there->netns, device->link, *config,
                               device->made ? kernel::LinkState::fresh : kernel::LinkState::kept);
  if (!applied && device->made) {
    if (auto undone = unplug_now(wire.id); !undone)
      base::log::warning("undoing the wire of {}: {}", wire.id, undone.error().message());
  }
  return applied;
}

Result<void> KernelPlane::unplug_now(const std::string& id) {
  const kernel::Mark mark{owner_, id};
  const auto known = wires_.find(id);
  if (known != wires_.end()) {
    const auto places = std::move(known->second.places);
    wires_.erase(known);
    return wiring_.remove(mark, places);
  }
  // Of an earlier life: found by its mark.
  const auto everywhere = kernel::reachable(namespaces_);
  auto marked = kernel::list_marked(everywhere);
  if (!marked) return std::unexpected(marked.error());
  std::vector<kernel::Place> places;
  for (const kernel::MarkedLink& found : *marked) {
    if (found.mark == mark) places.push_back({found.netns, found.link.name});
  }
  return wiring_.remove(mark, places);
}

Result<std::vector<std::string>> KernelPlane::plugged_now() {
  const auto everywhere = kernel::reachable(namespaces_);
  kernel::sweep(everywhere, graveyard_);
  auto marked = kernel::list_marked(everywhere);
  if (!marked) return std::unexpected(marked.error());
  std::vector<std::string> ids;
  for (const kernel::MarkedLink& found : *marked) {
    if (found.mark && found.mark->owner == owner_) ids.push_back(found.mark->connection);
  }
  std::ranges::sort(ids);
  ids.erase(std::ranges::unique(ids).begin(), ids.end());
  return ids;
}

Result<EndCounters> KernelPlane::counters_now(const std::string& id, Side side) {
  const auto known = wires_.find(id);
  EndCounters counters;
  if (known == wires_.end()) return counters;
  const Plugged& wire = known->second;
  if (side == Side::client ? !wire.client_is_kernel : !wire.endpoint_is_kernel) return counters;
  const kernel::Place& at = side == Side::client ? wire.places.front() : wire.places.back();
  auto statistics = kernel::statistics(*at.netns, at.name);
  if (!statistics) return std::unexpected(statistics.error());
  // What the workload sends is what this node receives.
  counters.rx_packets = statistics->sent_packets;
  counters.rx_bytes = statistics->sent_bytes;
  counters.tx_packets = statistics->received_packets;
  counters.tx_bytes = statistics->received_bytes;
  counters.drops = statistics->sent_dropped + statistics->received_dropped;
  return counters;
}

Result<Underlay> find_underlay(const std::string& tunnel_ip) {
  kernel::Namespaces namespaces;
  auto here = namespaces.current();
  if (!here) return std::unexpected(here.error());
  Result<kernel::Underlay> found;
  if (tunnel_ip.empty()) {
    found = kernel::default_underlay(**here);
  } else {
    auto address = wire::IpAddress::parse(tunnel_ip);
    if (!address) return std::unexpected(address.error());
    found = kernel::find_underlay(**here, *address);
  }
  if (!found) return std::unexpected(found.error());
  Underlay underlay;
  underlay.address = found->address;
  underlay.mtu = found->mtu;
  return underlay;
}

}  // namespace forwarder
