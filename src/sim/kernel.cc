// SPDX-License-Identifier: Apache-2.0
#include "sim/kernel.h"

#include <fmt/format.h>

#include <algorithm>

namespace sim {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using forwarder::KernelEnd;
using forwarder::VxlanEnd;
using forwarder::WireEnd;
using forwarder::WireSpec;

namespace {

std::string describe(const WireEnd& end) {
  if (const auto* kernel = std::get_if<KernelEnd>(&end))
    return fmt::format("{} {}", kernel->netns.url(), kernel->interface);
  const auto& tunnel = std::get<VxlanEnd>(end);
  return fmt::format("vxlan {} {} port {} vni {}", tunnel.local.to_string(), tunnel.remote.to_string(), tunnel.port,
                     tunnel.vni);
}

bool same(const WireEnd& a, const WireEnd& b) {
  if (a.index() != b.index()) return false;
  if (const auto* tunnel = std::get_if<VxlanEnd>(&a)) return *tunnel == std::get<VxlanEnd>(b);
  const auto& first = std::get<KernelEnd>(a);
  const auto& second = std::get<KernelEnd>(b);
  return first.netns.key() == second.netns.key() && first.interface == second.interface;
}

bool in_namespace(const WireEnd& end, rpc::InodeKey key) {
  const auto* kernel = std::get_if<KernelEnd>(&end);
  return kernel != nullptr && kernel->netns.key() == key;
}

}  // namespace

KernelFaults KernelFaults::drawn(base::Random& random) {
  KernelFaults faults;
  faults.step_max = between(random, milliseconds(1), milliseconds(60));
  if (!chance(random, 300'000)) faults.error = static_cast<std::uint32_t>(base::uniform(random, 50'000));
  if (!chance(random, 300'000)) faults.slow = static_cast<std::uint32_t>(base::uniform(random, 30'000));
  return faults;
}

FakeKernel::FakeKernel(World& world, std::string node, KernelFaults faults)
    : world_(world), node_(std::move(node)), faults_(faults), random_(world.random_for("kernel " + node_)) {}

rpc::Descriptor FakeKernel::add_namespace() {
  // Inodes of namespaces differ between nodes only by luck in real life; here they say whose they are in the log.
  const rpc::InodeKey key{4, (fnv1a(node_) % 1'000'000) * 10'000 + ++last_inode_};
  namespaces_.insert(key);
  world_.god().log(fmt::format("{}: namespace {} appears", node_, rpc::inode_url(key)));
  return {key, std::make_shared<const base::UniqueFd>()};
}

void FakeKernel::remove_namespace(rpc::InodeKey key) {
  if (namespaces_.erase(key) == 0) return;
  world_.god().log(fmt::format("{}: namespace {} goes", node_, rpc::inode_url(key)));
  std::erase_if(wires_, [key](const auto& entry) {
    return in_namespace(entry.second.spec.client, key) || in_namespace(entry.second.spec.endpoint, key);
  });
}

const FakeKernel::Wire* FakeKernel::wire_at(rpc::InodeKey netns, const std::string& interface) const {
  const WireEnd wanted = KernelEnd({netns, nullptr}, interface);
  for (const auto& [key, wire] : wires_) {
    if (same(wire.spec.client, wanted) || same(wire.spec.endpoint, wanted)) return &wire;
  }
  return nullptr;
}

void FakeKernel::submit(Process& process, std::function<Result<void>()> step, base::OneShot<Result<void>> done) {
  auto delay = between(random_, faults_.step_min, faults_.step_max);
  if (chance(random_, faults_.slow)) delay += between(random_, milliseconds(500), seconds(5));
  const bool fails = chance(random_, faults_.error);
  const bool survives = chance(random_, 500'000);  // its process's death
  if (!process.alive()) {
    process.post_at(process.now() + delay, [done] { done.set(fail(Code::cancelled, "this process is dead")); });
    return;
  }
  world_.god().post_at(world_.now() + delay, [this, &process, step = std::move(step), done, fails, survives] {
    if (!process.alive() && !survives) {
      done.set(fail(Code::cancelled, "this process is dead"));
    } else if (fails) {
      world_.god().log(fmt::format("{}: the kernel is busy", node_));
      done.set(fail(Code::unavailable, "the kernel is busy: EBUSY"));
    } else {
      done.set(step());
    }
  });
}

Result<void> FakeKernel::check(const WireKey& key, const WireEnd& end) const {
  const auto* kernel = std::get_if<KernelEnd>(&end);
  if (kernel != nullptr && !namespaces_.contains(kernel->netns.key())) {
    return fail(Code::not_found, "namespace {} is gone", kernel->netns.url());
  }
  if (kernel != nullptr && (kernel->interface.empty() || kernel->interface.size() > 15)) {
    return fail(Code::invalid_argument, "interface name '{}' has {} bytes: 1 to 15 are allowed", kernel->interface,
                kernel->interface.size());
  }
  for (const auto& [other, wire] : wires_) {
    if (other == key) continue;
    for (const WireEnd* taken : {&wire.spec.client, &wire.spec.endpoint}) {
      if (kernel != nullptr && same(end, *taken)) {
        return fail(Code::already_exists, "interface {} exists in {}: it is another connection's", kernel->interface,
                    kernel->netns.url());
      }
      const auto* mine = std::get_if<VxlanEnd>(&end);
      const auto* theirs = std::get_if<VxlanEnd>(taken);
      if (mine != nullptr && theirs != nullptr && mine->vni == theirs->vni && mine->port == theirs->port &&
          mine->remote == theirs->remote) {
        return fail(Code::already_exists, "VNI {} to {} is in use on this node", mine->vni, mine->remote.to_string());
      }
    }
  }
  return {};
}

Result<void> FakeKernel::create(const std::string& mark, const WireSpec& spec) {
  const WireKey key(mark, spec.id);
  const auto found = wires_.find(key);
  if (found != wires_.end() && same(found->second.spec.client, spec.client) &&
      same(found->second.spec.endpoint, spec.endpoint)) {
    return {};
  }
  if (std::holds_alternative<VxlanEnd>(spec.client) && std::holds_alternative<VxlanEnd>(spec.endpoint)) {
    return fail(Code::unimplemented, "the kernel plane cannot join two tunnels");
  }
  for (const WireEnd* end : {&spec.client, &spec.endpoint}) {
    if (auto free = check(key, *end); !free) return free;
  }
  if (found != wires_.end()) wires_.erase(found);
  wires_.emplace(key, Wire{spec, false});
  world_.god().log(
      fmt::format("{}: {} makes {}: {} to {}", node_, mark, spec.id, describe(spec.client), describe(spec.endpoint)));
  return {};
}

Result<void> FakeKernel::configure(const std::string& mark, const WireSpec& spec) {
  const auto found = wires_.find({mark, spec.id});
  if (found == wires_.end()) return fail(Code::not_found, "wire {} is gone: ENODEV", spec.id);
  found->second.spec = spec;
  found->second.configured = true;
  return {};
}

void FakeKernel::remove(const std::string& mark, const std::string& id) {
  if (wires_.erase({mark, id}) != 0) world_.god().log(fmt::format("{}: {} removes {}", node_, mark, id));
}

Task<Result<void>> FakePlane::run(std::function<Result<void>()> step) {
  base::OneShot<Result<void>> done(process_);
  kernel_.submit(process_, std::move(step), done);
  co_return co_await done;
}

Task<Result<void>> FakePlane::plug(WireSpec wire) {
  FakeKernel& kernel = kernel_;
  const auto& mark = mark_;
  const auto shared = std::make_shared<const WireSpec>(std::move(wire));
  const bool existed = kernel.wires().contains({mark, shared->id});
  std::function<Result<void>()> make = [&kernel, mark, shared] { return kernel.create(mark, *shared); };
  if (auto made = co_await run(std::move(make)); !made) co_return made;
  std::function<Result<void>()> set = [&kernel, mark, shared] { return kernel.configure(mark, *shared); };
  auto configured = co_await run(std::move(set));
  if (!configured && !existed) {
    std::function<Result<void>()> undo = [&kernel, mark, shared] {
      kernel.remove(mark, shared->id);
      return Result<void>();
    };
    // A kernel too busy to configure may be too busy to remove; insist, as the real plane does.
    for (int attempt = 0; attempt < 5; ++attempt) {
      if (co_await run(undo) || !process_.alive()) break;
    }
  }
  co_return configured;
}

Task<Result<void>> FakePlane::unplug(std::string id) {
  FakeKernel& kernel = kernel_;
  std::function<Result<void>()> step = [&kernel, mark = mark_, id] {
    kernel.remove(mark, id);
    return Result<void>();
  };
  co_return co_await run(std::move(step));
}

Task<Result<std::vector<std::string>>> FakePlane::plugged() {
  const auto ids = std::make_shared<std::vector<std::string>>();
  FakeKernel& kernel = kernel_;
  std::function<Result<void>()> step = [&kernel, mark = mark_, ids] {
    for (const auto& [key, wire] : kernel.wires()) {
      if (key.first == mark) ids->push_back(key.second);
    }
    return Result<void>();
  };
  if (auto listed = co_await run(std::move(step)); !listed) co_return std::unexpected(listed.error());
  co_return std::move(*ids);
}

Task<Result<forwarder::EndCounters>> FakePlane::counters(std::string id, forwarder::Side) {
  FakeKernel& kernel = kernel_;
  std::function<Result<void>()> step = [&kernel, mark = mark_, id] {
    return kernel.wires().contains({mark, id}) ? Result<void>() : fail(Code::not_found, "wire {} is not there", id);
  };
  if (auto known = co_await run(std::move(step)); !known) co_return std::unexpected(known.error());
  co_return forwarder::EndCounters();
}

bool packets_cross(const std::map<wire::IpAddress, FakeKernel*>& kernels, const FakeKernel& start,
                   rpc::InodeKey from_netns, const std::string& from_interface, rpc::InodeKey to_netns,
                   const std::function<bool(const std::string&, const std::string&)>& reachable) {
  const auto* first = start.wire_at(from_netns, from_interface);
  if (first == nullptr || !first->configured) return false;
  const WireEnd here = KernelEnd({from_netns, nullptr}, from_interface);
  const WireEnd& far = same(first->spec.client, here) ? first->spec.endpoint : first->spec.client;
  if (const auto* kernel = std::get_if<KernelEnd>(&far)) return kernel->netns.key() == to_netns;
  const auto& tunnel = std::get<VxlanEnd>(far);
  const auto remote = kernels.find(tunnel.remote);
  if (remote == kernels.end() || !reachable(start.node(), remote->second->node())) return false;
  VxlanEnd mirrored = tunnel;
  std::swap(mirrored.local, mirrored.remote);
  for (const auto& [key, wire] : remote->second->wires()) {
    if (!wire.configured) continue;
    if (same(wire.spec.client, mirrored)) return in_namespace(wire.spec.endpoint, to_netns);
    if (same(wire.spec.endpoint, mirrored)) return in_namespace(wire.spec.client, to_netns);
  }
  return false;
}

}  // namespace sim
