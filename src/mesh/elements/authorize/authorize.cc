// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize/authorize.h"

#include <algorithm>

namespace mesh {

using base::Result;
using base::Task;
using Act = Authorization::Act;

namespace {

constexpr std::size_t kSweepFrom = 64;  // below that many, what is gone may stay in memory

}  // namespace

Authorize::Owner Authorize::owner_of(const Connection& connection, const rpc::Peer& peer) {
  Owner owner;
  const Path& path = connection.path();
  const int own = static_cast<int>(path.index());
  owner.peer = peer.id;
  if (own > 0) {
    owner.callers_id = path.path_segments(own - 1).id();
    owner.first_id = path.path_segments(0).id();
    owner.first_subject = token_subject(path.path_segments(0).token());
  }
  return owner;
}

std::string Authorize::objection(const Connection& connection, const Owner& asking, Act act) const {
  const auto found = owners_.find(connection.id());
  if (found == owners_.end() || !begin_->knows(connection.id())) return {};
  const Owner& owner = found->second;
  if (owner.first_id != asking.first_id || owner.first_subject != asking.first_subject) {
    return fmt::format("the connection is {}'s {}, not {}'s {}", owner.first_subject, owner.first_id,
                       asking.first_subject, asking.first_id);
  }
  const bool hop_before_may_change = act == Act::request && connection.path().index() > 1;
  if (owner.peer != asking.peer && !hop_before_may_change) {
    return fmt::format("the connection was made by {}", owner.peer);
  }
  return {};
}

void Authorize::remember(const std::string& id, Owner owner) {
  if (owners_.size() > kSweepFrom + 2 * begin_->size()) {
    std::erase_if(owners_, [this](const auto& entry) { return !begin_->knows(entry.first); });
  }
  owners_.insert_or_assign(id, std::move(owner));
}

void Authorize::forget_if_gone(const std::string& id) {
  if (!begin_->knows(id)) owners_.erase(id);
}

Task<Result<Connection>> Authorize::request(Call& call, NetworkServiceRequest request) {
  if (authorization_ == nullptr) co_return co_await call.next(std::move(request));
  const rpc::Peer& peer = rpc::peer_of(call.context().link);
  auto allowed = co_await authorization_->check_call(request.connection(), peer, Act::request);
  if (!allowed) co_return std::unexpected(allowed.error());
  // From here to begin nothing waits: whoever is remembered first has the connection.
  Owner asking = owner_of(request.connection(), peer);
  if (const auto why = objection(request.connection(), asking, Act::request); !why.empty()) {
    co_return authorization_->refuse(fmt::format("Request of {} by {}", describe(request.connection()), peer.id), why);
  }
  const std::string id = request.connection().id();
  std::optional<Owner> before;
  if (const auto found = owners_.find(id); found != owners_.end() && begin_->knows(id)) before = found->second;
  remember(id, std::move(asking));
  auto connection = co_await call.next(std::move(request));
  // Who failed to take a connection over has no say in it.
  if (!connection && before && begin_->knows(id)) owners_.insert_or_assign(id, std::move(*before));
  forget_if_gone(id);
  co_return connection;
}

Task<Result<void>> Authorize::close(Call& call, Connection connection) {
  if (authorization_ == nullptr) co_return co_await call.next_close(std::move(connection));
  const rpc::Peer& peer = rpc::peer_of(call.context().link);
  auto allowed = co_await authorization_->check_call(connection, peer, Act::close);
  if (!allowed) co_return allowed;
  if (const auto why = objection(connection, owner_of(connection, peer), Act::close); !why.empty()) {
    co_return authorization_->refuse(fmt::format("Close of {} by {}", describe(connection), peer.id), why);
  }
  const std::string id = connection.id();
  auto closed = co_await call.next_close(std::move(connection));
  forget_if_gone(id);
  co_return closed;
}

bool Authorize::made(const rpc::Peer& peer, const std::string& id) const {
  const auto found = owners_.find(id);
  return !peer.id.empty() && found != owners_.end() && found->second.peer == peer.id && begin_->knows(id);
}

bool Authorize::asked_for(const rpc::Peer& peer, const std::string& callers_id) const {
  return !peer.id.empty() && std::ranges::any_of(owners_, [&](const auto& entry) {
    return entry.second.peer == peer.id && entry.second.callers_id == callers_id && begin_->knows(entry.first);
  });
}

}  // namespace mesh
