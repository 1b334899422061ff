// SPDX-License-Identifier: Apache-2.0
// A node's kernel as the forwarder's plane needs it: namespaces, the interfaces in them, tunnels. It outlives the
// processes that ask it for something: what a forwarder made before it was killed is still there, marked, for its
// successor to find.
//
// A plane's call takes time, may fail, and is not atomic: a wire is made, then configured. A process killed in between
// leaves a wire half made, and whether its last step still happens is the seed's to say.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "forwarder/plane.h"
#include "sim/world.h"

namespace sim {

// Odds are per million steps.
struct KernelFaults {
  base::Duration step_min = microseconds(500);
  base::Duration step_max = milliseconds(20);
  std::uint32_t error = 0;
  std::uint32_t slow = 0;  // 0.5 to 5 s

  static KernelFaults drawn(base::Random& random);
};

// One node's. What plug() made is a Wire; its interfaces stand in their namespaces under their names.
class FakeKernel {
 public:
  struct Wire {
    forwarder::WireSpec spec;
    bool configured = false;  // addresses are on it and packets may cross
  };
  // Who made it and for which connection.
  using WireKey = std::pair<std::string, std::string>;  // mark, id

  FakeKernel(World& world, std::string node, KernelFaults faults);

  const std::string& node() const { return node_; }
  void set_faults(const KernelFaults& faults) { faults_ = faults; }

  // A workload's namespace. Removing it takes its interfaces along, and what hangs on them.
  rpc::Descriptor add_namespace();
  void remove_namespace(rpc::InodeKey key);
  bool has_namespace(rpc::InodeKey key) const { return namespaces_.contains(key); }

  const std::map<WireKey, Wire>& wires() const { return wires_; }
  // The wire that owns an interface; nullptr if there is none of that name.
  const Wire* wire_at(rpc::InodeKey netns, const std::string& interface) const;

  // A call's step on its way through the kernel: runs later, if the process lives or the seed lets it through.
  void submit(Process& process, std::function<base::Result<void>()> step, base::OneShot<base::Result<void>> done);

  // The steps. create: not_found, already_exists, unimplemented.
  base::Result<void> create(const std::string& mark, const forwarder::WireSpec& spec);
  base::Result<void> configure(const std::string& mark, const forwarder::WireSpec& spec);
  void remove(const std::string& mark, const std::string& id);

 private:
  base::Result<void> check(const WireKey& key, const forwarder::WireEnd& end) const;

  World& world_;
  const std::string node_;
  KernelFaults faults_;
  base::SeededRandom random_;
  std::uint64_t last_inode_ = 0;
  std::set<rpc::InodeKey> namespaces_;
  std::map<WireKey, Wire> wires_;
};

// The plane of one forwarder's life. The mark is the forwarder's name, the same in all its lives.
class FakePlane final : public forwarder::Plane {
 public:
  FakePlane(FakeKernel& kernel, Process& process, std::string mark)
      : kernel_(kernel), process_(process), mark_(std::move(mark)) {}

  base::Task<base::Result<void>> plug(forwarder::WireSpec wire) override;
  base::Task<base::Result<void>> unplug(std::string id) override;
  base::Task<base::Result<std::vector<std::string>>> plugged() override;
  base::Task<base::Result<forwarder::EndCounters>> counters(std::string id, forwarder::Side side) override;

 private:
  base::Task<base::Result<void>> run(std::function<base::Result<void>()> step);

  FakeKernel& kernel_;
  Process& process_;
  const std::string mark_;
};

// Whether a packet sent into one interface comes out of the other: along wires and tunnels, node by node. kernels by
// the address tunnels start from; reachable says whether two nodes' underlays reach each other.
bool packets_cross(const std::map<::wire::IpAddress, FakeKernel*>& kernels, const FakeKernel& start,
                   rpc::InodeKey from_netns, const std::string& from_interface, rpc::InodeKey to_netns,
                   const std::function<bool(const std::string&, const std::string&)>& reachable);

}  // namespace sim
