// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_expiry/registry_expiry.h"

#include <algorithm>

#include "base/log.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

constexpr base::Duration kWithdrawTimeout = std::chrono::seconds(15);  // what NSM's programs give a registry call

}  // namespace

RegistryExpiry::RegistryExpiry(base::Scheduler& scheduler, TokenSource& tokens,
                               RegistrySerialised<Endpoints>& serialised, base::Duration lifetime)
    : scheduler_(scheduler), tokens_(tokens), serialised_(serialised), lifetime_(lifetime), scope_(scheduler) {}

Task<Result<NetworkServiceEndpoint>> RegistryExpiry::enroll(RegistryCall& call, NetworkServiceEndpoint endpoint) {
  const base::WallTime now = scheduler_.wall_now();
  base::WallTime until = now + lifetime_;
  const Token own = tokens_.issue(rpc::peer_of(call.link));
  until = std::min(until, own.expires);
  if (const auto peer = token_of(call.metadata)) until = std::min(until, peer->expires);
  if (until <= now) {
    co_return fail(
        Code::permission_denied,
        "endpoint {}: a token of its path expired at {} and it is {} here: check NSM_MAX_TOKEN_LIFETIME and the clocks",
        endpoint.name(), format_time(until), format_time(now));
  }
  if (!endpoint.has_expiration_time() || until < to_wall(endpoint.expiration_time())) {
    set_time(endpoint.mutable_expiration_time(), until);
  } else {
    until = to_wall(endpoint.expiration_time());
  }

  auto stored = co_await next().enroll(call, std::move(endpoint));
  if (!stored) co_return stored;
  if (!stored->has_expiration_time() || until < to_wall(stored->expiration_time())) {
    set_time(stored->mutable_expiration_time(), until);
  }
  lease(*stored, call.path);
  co_return stored;
}

Task<Result<void>> RegistryExpiry::withdraw(RegistryCall& call, NetworkServiceEndpoint endpoint) {
  const std::string name = endpoint.name();
  auto done = co_await next().withdraw(call, std::move(endpoint));
  if (done) leases_.erase(name);
  co_return done;
}

void RegistryExpiry::lease(NetworkServiceEndpoint endpoint, RegistrationPath path) {
  const base::Duration left = to_wall(endpoint.expiration_time()) - scheduler_.wall_now();
  const std::string name = endpoint.name();
  auto lease = std::make_shared<Lease>(scheduler_, std::move(endpoint), std::move(path));
  const Lease* identity = lease.get();
  lease->timer.set(base::saturating_add(scheduler_.now(), std::max(left, base::Duration::zero())),
                   [this, name, identity] { scope_.spawn(expire(name, identity)); });
  leases_.insert_or_assign(name, std::move(lease));
}

// Whoever holds the turn may have renewed the lease meanwhile: then it is another one.
Task<void> RegistryExpiry::expire(std::string name, const Lease* expired) {
  auto turn = co_await serialised_.turns().take(name, base::kNoDeadline, scope_.stop_token());
  if (!turn) co_return;
  const auto found = leases_.find(name);
  if (found == leases_.end() || found->second.get() != expired) co_return;
  const auto lease = found->second;
  leases_.erase(found);
  base::log::info("endpoint {} expired at {}: it was not refreshed in time", name,
                  format_time(to_wall(lease->endpoint.expiration_time())));
  RegistryCall call(scheduler_, base::saturating_add(scheduler_.now(), kWithdrawTimeout), scope_.stop_token());
  call.path = lease->path;
  auto done = co_await next().withdraw(call, lease->endpoint);
  serialised_.forget(name);
  if (!done) base::log::warning("endpoint {} expired, but unregistering it failed: {}", name, done.error().message());
}

Task<Result<void>> RegistryExpiry::adopt() {
  RegistryCall call(scheduler_, base::kNoDeadline, scope_.stop_token());
  auto all = co_await find_all<Endpoints>(next(), call, Query());
  if (!all) co_return std::unexpected(all.error());
  for (const auto& found : *all) {
    NetworkServiceEndpoint endpoint = Endpoints::record(found.response);
    const base::WallTime latest = scheduler_.wall_now() + lifetime_;
    if (!endpoint.has_expiration_time() || latest < to_wall(endpoint.expiration_time())) {
      set_time(endpoint.mutable_expiration_time(), latest);
    }
    lease(std::move(endpoint), RegistrationPath());
  }
  co_return Result<void>();
}

Task<void> RegistryExpiry::finish() {
  leases_.clear();
  return scope_.finish();
}

}  // namespace mesh
