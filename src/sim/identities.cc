// SPDX-License-Identifier: Apache-2.0
#include "sim/identities.h"

#include <cstdlib>

#include "base/log.h"
#include "identity/server/minting.h"

namespace sim {

namespace {

constexpr const char* kTrustDomain = "sim.test";
constexpr base::Duration kCaLifetime = hours(24 * 365);

// Making a certificate fails only when there is no memory or no randomness: no simulation goes on from there.
template <typename T>
T must(base::Result<T> result) {
  if (result) return std::move(*result);
  base::log::error("{}", result.error().message());
  std::abort();
}

identity::SpiffeId id_of(const std::string& path) {
  return must(identity::SpiffeId::parse(std::string("spiffe://") + kTrustDomain + path));
}

}  // namespace

TrustDomain::TrustDomain(const World& world, base::Duration svid_lifetime)
    : svid_lifetime_(svid_lifetime),
      key_(must(identity::new_key())),
      root_(must(identity::new_root(id_of(""), *key_, world.wall_now(), world.wall_now() + kCaLifetime))) {
  if (!bundles_.set(kTrustDomain, identity::to_der(*root_))) std::abort();
}

std::shared_ptr<const identity::Identity> TrustDomain::issue(const std::string& name, base::WallTime now) const {
  const auto id = id_of("/" + name);
  identity::X509Svid svid{id, {}, must(identity::new_key()), {}};
  svid.chain.push_back(must(identity::new_leaf(id, *svid.key, *root_, *key_, now, now + svid_lifetime_)));
  return std::make_shared<const identity::Identity>(std::move(svid), bundles_);
}

std::shared_ptr<const identity::Identity> RotatingSource::current() const {
  if (const auto now = process_.world().wall_now(); now >= renew_at_) {
    current_ = domain_.issue(process_.name(), now);
    certificate_ = identity::to_der(current_->svid.leaf());
    renew_at_ = now + domain_.svid_lifetime() / 2;
  }
  return current_;
}

rpc::Peer RotatingSource::self() const {
  rpc::Peer peer;
  peer.ours = current();
  peer.id = current_->svid.id.text();
  peer.certificate = certificate_;
  peer.expires = current_->svid.expires();
  return peer;
}

}  // namespace sim
