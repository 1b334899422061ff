// SPDX-License-Identifier: Apache-2.0
// A whole mesh in one world: nodes, a registry, managers, forwarders, pods that come and go, and what goes wrong with
// them.
//
// A run has three parts. Turmoil: so many steps, each a thing that happens to a mesh, among faults. Calm: faults end,
// all that died is back; after enough time every wire that can exist does and nothing else. Empty: all clients have
// gone; what they held is free.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sim/roles.h"

namespace sim {

struct MeshOptions {
  std::size_t nodes = 10;
  std::size_t steps = 60;
  bool faults = true;  // false: things come and go, nothing fails
};

class MeshWorld {
 public:
  // adjust: the last word on the settings that the seed chose.
  MeshWorld(std::uint64_t seed, MeshOptions options, const std::function<void(Settings&)>& adjust = {});
  ~MeshWorld();

  // All three parts; afterwards world().violation() says whether the mesh kept its promises.
  void run();

  World& world() { return world_; }
  const Settings& settings() const { return settings_; }
  // How many wires there were when all was calm.
  std::size_t wires_in_calm() const { return wires_in_calm_; }

  // Whether a packet crosses from the client's interface to the endpoint. What the simulated liveness check says.
  bool crosses(const mesh::Connection& connection, const Process& client) const;

 private:
  class SimLiveness;

  // A process that shall run, over all its lives.
  struct Slot {
    std::string node;
    std::string name;
    std::function<std::unique_ptr<Role>(Process&)> make;
    bool wanted = true;
    Process* process = nullptr;
    Role* role = nullptr;                      // while the process is alive
    std::unique_ptr<mesh::Liveness> liveness;  // of the process's present life; clients
  };
  enum class Kind { client, endpoint };
  struct Pod {
    Kind kind;
    std::string name;
    std::size_t node;
    rpc::Descriptor netns;
    std::string service;
    std::size_t wires;
    Slot* slot;
    bool exists = true;
  };

  std::string node_name(std::size_t node) const { return "node-" + std::to_string(node); }
  FakeKernel& kernel(std::size_t node) { return *kernels_[node]; }
  Slot& add_slot(std::string node, std::string name, std::function<std::unique_ptr<Role>(Process&)> make);
  void start(Slot& slot);
  void restart_later(Slot& slot);
  Role* living(const Slot& slot) const;

  void add_pod(Kind kind);
  void remove_pod(Pod& pod);
  void step();
  void kill_something();
  void cut_something();

  void turmoil();
  void calm();
  void empty();
  void pass(base::Duration time);

  void check_current();
  void check_calm();
  void check_wires(const std::map<std::string, std::string>& live_ids);
  void check_empty();
  std::size_t wires() const;

  const MeshOptions options_;
  World world_;
  base::SeededRandom random_;
  Settings settings_;
  Network network_;
  RegistryDisk disk_;
  std::vector<std::unique_ptr<FakeKernel>> kernels_;
  std::map<wire::IpAddress, FakeKernel*> kernels_by_address_;
  std::deque<Slot> slots_;
  std::deque<Pod> pods_;
  std::map<std::uint64_t, Slot*> slot_of_process_;
  std::vector<std::unique_ptr<mesh::Liveness>> old_liveness_;
  std::size_t last_pod_ = 0;
  bool faulty_ = true;
  std::size_t wires_in_calm_ = 0;
};

}  // namespace sim
