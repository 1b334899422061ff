// SPDX-License-Identifier: Apache-2.0
// The network under simulated transports: nodes, addresses, who listens where, latency, and what goes wrong.
//
// A connection behaves as TCP (or a unix socket) shows it to a program: bytes come in order or the connection breaks.
// So loss is a retransmission's delay; a partition holds messages back until it heals or keepalive gives up; a peer
// that died is heard of soon, or only by keepalive (half open). Unix sockets belong to their node, never break alone,
// and carry files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/random.h"
#include "base/result.h"
#include "rpc/descriptor.h"
#include "rpc/transport.h"
#include "rpc/url.h"
#include "sim/world.h"

namespace sim {

class End;
class ListenerState;

// How the network treats connections. Odds are per million.
struct Faults {
  base::Duration local_min = microseconds(20);
  base::Duration local_max = microseconds(200);
  base::Duration remote_min = microseconds(200);
  base::Duration remote_max = milliseconds(2);
  std::uint32_t retransmit = 0;       // messages between nodes that come 0.2 to 3 s late, and all behind them
  std::uint32_t reset = 0;            // messages between nodes that never come: their connection breaks instead
  std::uint32_t half_open = 0;        // connections whose peer's death only keepalive reveals
  std::uint32_t late_descriptor = 0;  // files that come after the message that names them
  base::Duration keepalive_min = seconds(10);
  base::Duration keepalive_max = seconds(40);
  base::Duration dial_timeout = seconds(20);

  // Mild to rough, as the seed has it.
  static Faults drawn(base::Random& random);
};

class Network {
 public:
  Network(World& world, Faults faults);

  void add_node(const std::string& node, const std::string& address);
  // Another name for a node in tcp URLs.
  void add_alias(const std::string& host, const std::string& node);
  // For what is sent from now on.
  void set_faults(const Faults& faults) { faults_ = faults; }
  const Faults& faults() const { return faults_; }

  void partition(const std::string& a, const std::string& b);
  void heal(const std::string& a, const std::string& b);
  void heal_all();
  bool reachable(const std::string& a, const std::string& b) const;

  // What Descriptor::open() is for a listening unix socket: fails if none listens there.
  base::Result<rpc::Descriptor> open_socket(const std::string& node, const std::string& path) const;
  std::size_t listeners() const { return by_inode_.size(); }
  std::size_t connections() const;                          // ends that are not broken
  std::map<std::uint64_t, std::size_t> open_calls() const;  // that processes have made and wait for, by process

  // For the transport.
  World& world() { return world_; }
  base::Random& random() { return random_; }
  base::Result<std::string> node_of(const rpc::Url& url, const std::string& from) const;
  std::shared_ptr<ListenerState> find(const rpc::Url& url, const std::string& from,
                                      const std::optional<rpc::Descriptor>& socket) const;
  base::Result<std::string> enlist(const rpc::Url& url, const std::shared_ptr<ListenerState>& listener);
  void delist(const ListenerState& listener);
  void enlist(const std::shared_ptr<End>& end);
  void delist(const End& end);
  std::uint64_t next_connection() { return ++last_connection_; }
  base::Duration latency(bool local);
  base::Duration keepalive();
  void watch(Process& process);  // has its connections broken when it dies

 private:
  void died(const Process& process);
  std::string tcp_key(const std::string& node, std::uint16_t port) const;

  World& world_;
  base::SeededRandom random_;
  Faults faults_;
  std::map<std::string, std::string> addresses_;  // node -> address
  std::map<std::string, std::string> hosts_;      // name or address -> node
  std::set<std::pair<std::string, std::string>> partitions_;
  std::uint64_t partition_generation_ = 0;
  std::map<std::string, std::weak_ptr<ListenerState>> by_address_;  // "node /path" or "node :port"
  std::map<rpc::InodeKey, std::weak_ptr<ListenerState>> by_inode_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::weak_ptr<End>> ends_;  // process, serial
  std::set<std::uint64_t> watched_;
  std::uint64_t last_connection_ = 0;
  std::uint64_t last_inode_ = 1000;
  std::uint16_t last_port_ = 32768;
};

}  // namespace sim
