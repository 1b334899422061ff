// SPDX-License-Identifier: Apache-2.0
// A mesh on this machine: an underlay bridge in a namespace of its own, one namespace a node, each with its manager and
// forwarder, one registry, and workloads in namespaces of their own. Nothing of it is in the machine's own namespace.
//
//      client ns              node1 ns             underlay ns             node2 ns            endpoint ns
//   [client, nsm-1]    [manager, forwarder] eth0--node1 |bridge| node2--eth0 [manager, forwarder]   [endpoint]
//                                                     [registry]
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "lab/cases.h"
#include "lab/process.h"
#include "lab/progress.h"
#include "lab/state.h"

namespace lab {

enum class UnderlayFamily : std::uint8_t { v4 = 4, v6 = 6 };
enum class PlaintextIp : bool { refused, allowed };

struct MeshOptions {
  unsigned nodes = 2;
  UnderlayFamily underlay = UnderlayFamily::v4;
  std::uint32_t underlay_mtu = 1500;
  PlaintextIp plaintext_ip = PlaintextIp::refused;  // lets the kernel plane carry payload IP between nodes, unencrypted
  std::string plane = "kernel";                     // FORWARDING_PLANE
};

// A workload: a namespace and the one process that lives in it.
struct Pod {
  std::string name;
  unsigned node = 1;
  Process process;
};

class Mesh {
 public:
  // Builds and starts everything; on failure what was made is removed again, and the error carries the log of what
  // failed.
  static base::Result<std::unique_ptr<Mesh>> build(const MeshOptions& options, const Places& places,
                                                   const std::string& purpose, const Progress& progress);
  ~Mesh();  // takes down if nobody did
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  const MeshOptions& options() const { return options_; }
  LabState& state() { return state_; }
  std::filesystem::path netns(const std::string& name) const { return state_.netns_path(name); }
  std::string underlay_address(unsigned node) const;

  // Workloads of a case. The node counts from 1. A pod's namespace is made by add_pod and outlives its processes.
  base::Result<void> add_pod(const std::string& name);
  base::Result<void> remove_pod(const std::string& name);
  base::Result<Process> start_client(const Case& one, const std::string& pod, unsigned node);
  base::Result<Process> start_endpoint(const Case& one, const std::string& pod, unsigned node);

  // Names of the mesh's own processes that have ended, which none should, with how.
  std::vector<std::string> dead_processes();

  // The last lines of each of their logs.
  std::string logs() const;

  // Ends every process in order, removes everything, and returns what was left behind or had to be forced.
  std::vector<std::string> take_down();

 private:
  Mesh(const MeshOptions& options, LabState state) : options_(options), state_(std::move(state)) {}
  base::Result<void> build_underlay();
  base::Result<void> build_node(unsigned node);
  std::filesystem::path identity_socket() const;
  base::Result<void> start_identity();
  base::Result<void> start_registry();
  base::Result<void> start_node(unsigned node);
  base::Result<Process> start(ProcessSpec spec);
  base::Result<void> wait_for_port(Process& process, std::uint16_t port);
  base::Result<void> wait_for_socket(Process& process, const std::filesystem::path& socket);
  std::filesystem::path node_directory(unsigned node) const;
  std::string manager_url(unsigned node) const;

  MeshOptions options_;
  LabState state_;
  std::vector<Process> processes_;  // registry, then manager and forwarder of each node
  bool down_ = false;
};

// The error's sentence followed by the last lines of the log of the process that it is about.
base::Error with_log(base::Error error, const Process& process);

}  // namespace lab
