// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize_monitor/authorize_monitor.h"

#include <algorithm>
#include <set>
#include <string>

#include "rpc/typed.h"

namespace mesh {

using base::Result;
using base::Task;

// Takes out of each event what the peer may not see. An event left empty is not sent, except the first.
class AuthorizeMonitor::Filter final : public rpc::ServerStream {
 public:
  Filter(const Authorization& authorization, const Authorize& makers, const rpc::Peer& peer, rpc::ServerStream& out)
      : authorization_(authorization), makers_(makers), peer_(peer), out_(out) {}

  Task<Result<void>> write(rpc::Bytes message, std::vector<rpc::Descriptor> descriptors) override {
    auto event = rpc::parse<ConnectionEvent>(message, method::kMonitor);
    if (!event) co_return std::unexpected(event.error());
    auto& connections = *event->mutable_connections();
    for (auto entry = connections.begin(); entry != connections.end();) {
      const bool ends_what_it_saw = event->type() == connection::DELETE && told_.erase(entry->first) > 0;
      const bool visible =
          ends_what_it_saw || makers_.made(peer_, entry->first) || authorization_.may_watch(entry->second, peer_);
      if (visible && event->type() != connection::DELETE) told_.insert(entry->first);
      entry = visible ? std::next(entry) : connections.erase(entry);
    }
    if (connections.empty() && event->type() != connection::INITIAL_STATE_TRANSFER) co_return Result<void>();
    rpc::Bytes filtered = event->SerializeAsString();
    co_return co_await out_.write(std::move(filtered), std::move(descriptors));
  }

 private:
  const Authorization& authorization_;
  const Authorize& makers_;
  const rpc::Peer peer_;
  rpc::ServerStream& out_;
  std::set<std::string> told_;  // of these it hears the end too, when nobody knows any more who made them
};

Task<Result<void>> AuthorizeMonitor::serve(rpc::ServerCall& call, MonitorScopeSelector selector,
                                           rpc::ServerStream& stream) const {
  if (authorization_ == nullptr) co_return co_await monitor_.serve(call, std::move(selector), stream);
  const rpc::Peer& peer = rpc::peer_of(call.link);
  if (authorization_->monitors_own_only()) {
    const bool own = std::ranges::any_of(selector.path_segments(), [&](const PathSegment& segment) {
      return !segment.id().empty() && makers_->asked_for(peer, segment.id());
    });
    if (!own) {
      co_return authorization_->refuse("MonitorConnections by " + (peer.id.empty() ? "nobody known" : peer.id),
                                       "service_connection: it asked for none of the connections it names");
    }
  }
  if (!authorization_->monitor_is_filtered()) co_return co_await monitor_.serve(call, std::move(selector), stream);
  Filter filter(*authorization_, *makers_, peer, stream);
  co_return co_await monitor_.serve(call, std::move(selector), filter);
}

}  // namespace mesh
