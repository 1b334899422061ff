// SPDX-License-Identifier: Apache-2.0
#include "sim/mesh_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace sim {

using base::Result;
using base::Task;

namespace {

constexpr std::size_t kServices = 3;
constexpr std::size_t kCallsUnderWay = 2;       // a registration may be being refreshed at that moment
constexpr base::Duration kGrace = seconds(10);  // from SIGTERM to SIGKILL of a pod

constexpr base::Duration kSvidLifetime = minutes(4);

std::string service_name(std::size_t service) { return fmt::format("service-{}", service); }
std::string payload_of(std::size_t service) {
  return std::string(service % 2 == 0 ? mesh::kPayloadEthernet : mesh::kPayloadIp);
}
std::string address_of(std::size_t node) { return fmt::format("10.0.{}.{}", node / 250, node % 250 + 1); }

Settings settled(World& world, const std::function<void(Settings&)>& adjust) {
  auto random = world.random_for("settings");
  auto settings = Settings::drawn(random);
  // Keys and signatures take their time, so not in every run.
  if (chance(random, 125'000)) settings.trust_domain = std::make_shared<TrustDomain>(world, kSvidLifetime);
  if (adjust) adjust(settings);
  return settings;
}

Faults network_faults(World& world, bool faults) {
  auto random = world.random_for("network faults");
  return faults ? Faults::drawn(random) : Faults();
}

}  // namespace

// Packets cross or do not; the check takes its time.
class MeshWorld::SimLiveness final : public mesh::Liveness {
 public:
  SimLiveness(MeshWorld& mesh, Process& process) : mesh_(mesh), process_(process) {}

  Task<Result<bool>> alive(const mesh::Connection& connection, base::Duration timeout, base::StopToken stop) override {
    const bool crosses = mesh_.crosses(connection, process_);
    const bool slept = co_await base::sleep_for(process_, crosses ? base::Duration(milliseconds(2)) : timeout, stop);
    if (!slept) co_return base::fail(base::Code::cancelled, "the check was stopped");
    co_return crosses || mesh_.crosses(connection, process_);
  }

 private:
  MeshWorld& mesh_;
  Process& process_;
};

MeshWorld::MeshWorld(std::uint64_t seed, MeshOptions options, const std::function<void(Settings&)>& adjust)
    : options_(options),
      world_(seed),
      random_(world_.random_for("workload")),
      settings_(settled(world_, adjust)),
      network_(world_, network_faults(world_, options.faults)),
      faulty_(options.faults) {
  network_.add_node("registry-node", "10.255.0.1");
  network_.add_alias("registry", "registry-node");
  auto kernel_random = world_.random_for("kernel faults");
  for (std::size_t node = 0; node < options_.nodes; ++node) {
    network_.add_node(node_name(node), address_of(node));
    const auto faults = options_.faults ? KernelFaults::drawn(kernel_random) : KernelFaults();
    kernels_.push_back(std::make_unique<FakeKernel>(world_, node_name(node), faults));
    kernels_by_address_[*wire::IpAddress::parse(address_of(node))] = kernels_.back().get();
  }
  world_.add_invariant([this] { check_current(); });

  start(add_slot("registry-node", "registry", [this](Process& process) {
    return std::make_unique<RegistryRole>(network_, process, settings_, disk_);
  }));
  for (std::size_t node = 0; node < options_.nodes; ++node) {
    start(add_slot(node_name(node), fmt::format("manager-{}", node), [this, node](Process& process) {
      return std::make_unique<ManagerRole>(network_, process, settings_, address_of(node));
    }));
    start(add_slot(node_name(node), fmt::format("forwarder-{}", node), [this, node](Process& process) {
      return std::make_unique<ForwarderRole>(network_, process, settings_, kernel(node),
                                             *wire::IpAddress::parse(address_of(node)));
    }));
  }
}

MeshWorld::~MeshWorld() { world_.finish(); }

MeshWorld::Slot& MeshWorld::add_slot(std::string node, std::string name,
                                     std::function<std::unique_ptr<Role>(Process&)> make) {
  Slot& slot = slots_.emplace_back();
  slot.node = std::move(node);
  slot.name = std::move(name);
  slot.make = std::move(make);
  return slot;
}

void MeshWorld::start(Slot& slot) {
  if (slot.process != nullptr && slot.process->alive()) return;
  Process& process = world_.spawn(slot.node, slot.name);
  slot.process = &process;
  slot.role = nullptr;
  slot_of_process_[process.id()] = &slot;
  if (faulty_) process.jump_wall_clock(between(random_, -seconds(1), seconds(1)));
  process.post([&slot, &process] {
    if (!process.alive()) return;
    auto role = slot.make(process);
    if (slot.process == &process) slot.role = role.get();
    process.run(std::move(role));
  });
}

void MeshWorld::restart_later(Slot& slot) {
  const auto delay = chance(random_, 700'000) ? between(random_, milliseconds(100), seconds(3))
                                              : between(random_, seconds(3), seconds(40));
  world_.god().post_at(world_.now() + delay, [this, &slot] {
    if (slot.wanted) start(slot);
  });
}

Role* MeshWorld::living(const Slot& slot) const {
  return slot.process != nullptr && slot.process->state() == Process::State::running ? slot.role : nullptr;
}

bool MeshWorld::crosses(const mesh::Connection& connection, const Process& client) const {
  const auto* here = [&]() -> const FakeKernel* {
    for (const auto& kernel : kernels_) {
      if (kernel->node() == client.node()) return kernel.get();
    }
    return nullptr;
  }();
  const auto netns =
      rpc::parse_inode_url(mesh::mechanism_parameter(connection.mechanism(), mesh::parameter::kInodeUrl));
  const auto endpoint = std::ranges::find_if(
      pods_, [&](const Pod& pod) { return pod.exists && pod.name == connection.network_service_endpoint_name(); });
  if (here == nullptr || !netns || endpoint == pods_.end()) return false;
  return packets_cross(kernels_by_address_, *here, *netns,
                       mesh::mechanism_parameter(connection.mechanism(), mesh::parameter::kName), endpoint->netns.key(),
                       [this](const std::string& a, const std::string& b) { return network_.reachable(a, b); });
}

void MeshWorld::add_pod(Kind kind) {
  const auto node = base::uniform(random_, options_.nodes);
  const auto service = base::uniform(random_, kServices);
  const auto number = ++last_pod_;
  PodParts parts{fmt::format("{}-{}", kind == Kind::client ? "nsc" : "nse", number),
                 service_name(service),
                 payload_of(service),
                 kernel(node).add_namespace(),
                 fmt::format("172.{}.{}.0/26", 16 + number / 250, number % 250),
                 kind == Kind::client ? 1 + base::uniform(random_, 2) : 0};
  Pod pod{kind, parts.name, node, parts.netns, parts.service, parts.wires, nullptr};
  pod.slot = &add_slot(node_name(node), parts.name, {});
  Slot& slot = *pod.slot;
  if (kind == Kind::endpoint) {
    slot.make = [this, parts](Process& process) {
      return std::make_unique<EndpointRole>(network_, process, settings_, parts);
    };
  } else {
    slot.make = [this, parts, &slot](Process& process) {
      if (slot.liveness) old_liveness_.push_back(std::move(slot.liveness));
      slot.liveness = std::make_unique<SimLiveness>(*this, process);
      return std::make_unique<ClientRole>(network_, process, settings_, parts, *slot.liveness);
    };
  }
  pods_.push_back(std::move(pod));
  start(slot);
}

void MeshWorld::remove_pod(Pod& pod) {
  if (!pod.slot->wanted) return;
  pod.slot->wanted = false;
  if (pod.slot->process->alive()) world_.terminate(*pod.slot->process);
  world_.god().post_at(world_.now() + kGrace, [this, &pod] {
    world_.kill(*pod.slot->process);
    pod.exists = false;
    kernel(pod.node).remove_namespace(pod.netns.key());
  });
}

void MeshWorld::kill_something() {
  Slot& slot = slots_[base::uniform(random_, slots_.size())];
  if (!slot.wanted || slot.process == nullptr || !slot.process->alive()) return;
  if (chance(random_, 200'000)) {
    world_.terminate(*slot.process);
    auto* process = slot.process;
    world_.god().post_at(world_.now() + kGrace, [this, process] { world_.kill(*process); });
    world_.god().post_at(world_.now() + kGrace + milliseconds(1), [this, &slot] {
      if (slot.wanted) start(slot);
    });
    return;
  }
  world_.kill(*slot.process);
  restart_later(slot);
}

void MeshWorld::cut_something() {
  const auto pick = [this] {
    const auto node = base::uniform(random_, options_.nodes + 1);
    return node == options_.nodes ? std::string("registry-node") : node_name(node);
  };
  const auto a = pick();
  const auto b = pick();
  if (a == b) return;
  network_.partition(a, b);
  const auto lasting = chance(random_, 700'000) ? between(random_, milliseconds(100), seconds(5))
                                                : between(random_, seconds(5), seconds(60));
  world_.god().post_at(world_.now() + lasting, [this, a, b] { network_.heal(a, b); });
}

void MeshWorld::step() {
  const auto of_kind = [this](Kind kind) {
    std::vector<Pod*> found;
    for (Pod& pod : pods_) {
      if (pod.kind == kind && pod.slot->wanted) found.push_back(&pod);
    }
    return found;
  };
  const auto clients = of_kind(Kind::client);
  const auto endpoints = of_kind(Kind::endpoint);
  const auto dice = base::uniform(random_, 100);
  if (dice < 25) {
    if (clients.size() < options_.nodes * 2) add_pod(Kind::client);
  } else if (dice < 35) {
    if (!clients.empty()) remove_pod(*clients[base::uniform(random_, clients.size())]);
  } else if (dice < 42) {
    if (endpoints.size() < options_.nodes) add_pod(Kind::endpoint);
  } else if (dice < 47) {
    if (endpoints.size() > 1) remove_pod(*endpoints[base::uniform(random_, endpoints.size())]);
  } else if (!faulty_) {
    return;
  } else if (dice < 75) {
    kill_something();
  } else if (dice < 85) {
    cut_something();
  } else if (dice < 93) {
    const Slot& slot = slots_[base::uniform(random_, slots_.size())];
    if (slot.process != nullptr)
      slot.process->pause_until(world_.now() + between(random_, milliseconds(10), seconds(5)));
  } else {
    const Slot& slot = slots_[base::uniform(random_, slots_.size())];
    const auto by = between(random_, -seconds(20), seconds(20));
    if (slot.process != nullptr && slot.process->alive()) {
      slot.process->log(fmt::format("wall clock jumps by {} ms", by / milliseconds(1)));
      slot.process->jump_wall_clock(by);
    }
  }
}

void MeshWorld::pass(base::Duration time) { world_.run_until(world_.now() + time); }

void MeshWorld::turmoil() {
  pass(seconds(2));
  for (std::size_t i = 0; i < kServices; ++i) add_pod(Kind::endpoint);
  for (std::size_t i = 0; i < options_.steps && !world_.violation(); ++i) {
    pass(chance(random_, 500'000) ? between(random_, {}, milliseconds(500)) : between(random_, {}, seconds(6)));
    step();
  }
}

void MeshWorld::calm() {
  world_.god().log("calm begins");
  faulty_ = false;
  network_.set_faults(Faults());
  network_.heal_all();
  for (const auto& kernel : kernels_) kernel->set_faults(KernelFaults());
  // Tokens given out before: at most this far in the future, by the clock that was furthest ahead.
  pass(kGrace + seconds(1));
  for (Slot& slot : slots_) {
    if (slot.wanted) start(slot);
    if (slot.process != nullptr) slot.process->correct_wall_clock();
  }
  // A connection nobody refreshes ends with its tokens, a wire nobody wants a lifetime later, at the next look; and a
  // client that was told no tries again for a while.
  pass(settings_.token_lifetime * 3 + seconds(150));
  check_calm();
}

void MeshWorld::empty() {
  world_.god().log("clients leave");
  for (Pod& pod : pods_) {
    if (pod.kind == Kind::client) remove_pod(pod);
  }
  pass(kGrace + settings_.token_lifetime * 3 + seconds(90));
  check_empty();
}

void MeshWorld::run() {
  turmoil();
  if (!world_.violation()) calm();
  if (!world_.violation()) empty();
  world_.finish();
}

void MeshWorld::check_current() {
  const Process* current = world_.current();
  if (current == nullptr || current->state() != Process::State::running) return;
  const auto found = slot_of_process_.find(current->id());
  if (found == slot_of_process_.end() || found->second->process != current || found->second->role == nullptr) return;
  if (auto broken = found->second->role->check()) world_.violate(fmt::format("{}: {}", current->label(), *broken));
}

std::size_t MeshWorld::wires() const {
  std::size_t total = 0;
  for (const auto& kernel : kernels_) total += kernel->wires().size();
  return total;
}

void MeshWorld::check_calm() {
  if (world_.violation()) return;
  std::map<std::string, std::string> live;  // the ids of every connection's path -> whose it is
  for (const Pod& pod : pods_) {
    if (pod.kind != Kind::client || !pod.slot->wanted) continue;
    const bool possible = std::ranges::any_of(pods_, [&](const Pod& other) {
      return other.kind == Kind::endpoint && other.slot->wanted && other.service == pod.service;
    });
    Role* role = living(*pod.slot);
    if (role == nullptr) return world_.violate(pod.name + " does not run although all is calm");
    const auto connections = role->connections()->connections();
    if (possible && connections.size() != pod.wires) {
      return world_.violate(fmt::format("{} has {} of {} wires to {} although all is calm", pod.name,
                                        connections.size(), pod.wires, pod.service));
    }
    for (const auto& connection : connections) {
      for (const auto& segment : connection.path().path_segments()) live[segment.id()] = pod.name;
      if (possible && !crosses(connection, role->process())) {
        return world_.violate(fmt::format("{}: no packet crosses {} although all is calm", pod.name, connection.id()));
      }
    }
  }
  check_wires(live);
}

void MeshWorld::check_wires(const std::map<std::string, std::string>& live_ids) {
  for (const Slot& slot : slots_) {
    Role* role = living(slot);
    if (role == nullptr || role->connections() == nullptr) continue;
    std::size_t tunnels = 0;
    for (const auto& connection : role->connections()->connections()) {
      if (!live_ids.contains(connection.id())) {
        return world_.violate(fmt::format("{} keeps connection {} of nobody", slot.name, connection.id()));
      }
    }
    const auto* forwarder = dynamic_cast<const ForwarderRole*>(role);
    if (forwarder == nullptr) continue;
    for (const auto& kernel : kernels_) {
      if (kernel->node() != slot.node) continue;
      for (const auto& [key, wire] : kernel->wires()) {
        if (!live_ids.contains(key.second)) {
          return world_.violate(fmt::format("{}: a wire of connection {} of nobody remains", slot.node, key.second));
        }
        // The forwarder on the endpoint's side chose the VNI; the other one uses what it was told.
        tunnels += std::holds_alternative<forwarder::VxlanEnd>(wire.spec.client);
      }
    }
    if (forwarder->vnis() != tunnels) {
      return world_.violate(
          fmt::format("{} holds {} VNIs for the {} tunnels it chose them for", slot.name, forwarder->vnis(), tunnels));
    }
  }
  wires_in_calm_ = std::max(wires_in_calm_, wires());
}

void MeshWorld::check_empty() {
  if (world_.violation()) return;
  check_wires({});
  if (world_.violation()) return;
  std::size_t enrolled = 0;
  const RegistryRole* registry = nullptr;
  for (const Slot& slot : slots_) {
    Role* role = living(slot);
    if (role == nullptr) continue;
    if (const auto* endpoint = dynamic_cast<const EndpointRole*>(role)) {
      ++enrolled;
      if (!endpoint->all_addresses_free()) {
        return world_.violate(fmt::format("{} has no connection and yet an address is taken", slot.name));
      }
    }
    if (dynamic_cast<const ForwarderRole*>(role) != nullptr) ++enrolled;
    if (const auto* found = dynamic_cast<const RegistryRole*>(role)) registry = found;
  }
  if (registry == nullptr || registry->endpoints() != enrolled) {
    return world_.violate(fmt::format("the registry has {} endpoints, {} live",
                                      registry == nullptr ? 0 : registry->endpoints(), enrolled));
  }
  // Whoever is enrolled watches its own records, two for an endpoint and one for a forwarder, and its manager passes
  // those watches on. Connections' streams are gone.
  std::map<std::string, std::size_t> watches;
  for (const Slot& slot : slots_) {
    const Role* role = living(slot);
    if (role == nullptr) continue;
    if (dynamic_cast<const EndpointRole*>(role) != nullptr) watches[slot.node] += 2;
    if (dynamic_cast<const ForwarderRole*>(role) != nullptr) watches[slot.node] += 1;
  }
  for (const auto& [process, calls] : network_.open_calls()) {
    const auto slot = slot_of_process_.find(process);
    if (slot == slot_of_process_.end() || calls <= watches[slot->second->node] + kCallsUnderWay) continue;
    return world_.violate(fmt::format("{} has {} calls open without a connection", slot->second->name, calls));
  }
}

}  // namespace sim
