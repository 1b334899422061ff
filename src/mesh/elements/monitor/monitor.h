// SPDX-License-Identifier: Apache-2.0
// Tells subscribers what becomes of connections, and follows each connection at the next hop to learn of it.
//
// After: begin. Keeps: the connection as last answered, and the subscription at the next hop. Failed repeated request
// of a connection that was followed: subscribers hear DOWN. Repeated request: the old subscription ends first, a new
// one follows the answer. Close: subscribers hear DELETE, whether or not the hops below could be told.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/async.h"
#include "mesh/core/element.h"
#include "rpc/transport.h"

namespace mesh {

class Monitor final : public Element {
 public:
  using Needs = Types<Serialised>;

  Monitor(base::Scheduler& scheduler, rpc::Transport& transport)
      : scheduler_(scheduler), transport_(transport), followers_(scheduler) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

  // Serves one subscriber: the state now, at once, then every change, until the subscriber leaves or end() is called.
  base::Task<base::Result<void>> serve(rpc::ServerCall& call, MonitorScopeSelector selector, rpc::ServerStream& stream);

  // Ends all streams, both ways, and waits for them.
  base::Task<void> finish();

  std::size_t size() const { return connections_.size(); }
  std::size_t subscribers() const { return subscribers_.size(); }

 private:
  struct Subscriber;
  struct Followed;

  void follow(Call& call, const Connection& connection);
  base::Task<void> follow_hop(std::string id, std::string name, std::uint32_t index,
                              std::shared_ptr<Followed> followed);
  // Applies what the next hop says; returns whether anything changed.
  void apply(const std::string& id, std::uint32_t index, const ConnectionEvent& event);
  void set_down(const std::string& id);
  void emit(connection::ConnectionEventType type, const Connection& connection);
  void put(const std::string& id, Connection connection);
  std::optional<Connection> take(const std::string& id);

  base::Scheduler& scheduler_;
  rpc::Transport& transport_;
  std::map<std::string, Connection> connections_;
  // Both sides meet by the ids of path segments: nearly every selector names one, and to look at all subscribers for
  // each event would make connecting slower with every connection a node has.
  std::map<std::string, std::set<std::string>> by_segment_;              // ids of connections, by the ids on their path
  std::multimap<std::string, std::shared_ptr<Subscriber>> subscribers_;  // by an id their selector names, or ""
  base::TaskScope followers_;
  bool ended_ = false;
};

// Whether the selector covers the connection.
bool selects(const MonitorScopeSelector& selector, const Connection& connection);

}  // namespace mesh
