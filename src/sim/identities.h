// SPDX-License-Identifier: Apache-2.0
// The trust domain of a simulated mesh: one CA, and an SVID for each process that lives for a while and is then
// another's place. Keys are real, and as random as OpenSSL makes them; nothing that is logged depends on their bits.
#pragma once

#include <memory>
#include <string>

#include "identity/source.h"
#include "rpc/transport.h"
#include "sim/world.h"

namespace sim {

class TrustDomain {
 public:
  TrustDomain(const World& world, base::Duration svid_lifetime);

  std::shared_ptr<const identity::Identity> issue(const std::string& name, base::WallTime now) const;
  base::Duration svid_lifetime() const { return svid_lifetime_; }

 private:
  const base::Duration svid_lifetime_;
  identity::KeyPtr key_;
  identity::CertificatePtr root_;
  identity::Bundles bundles_;
};

// A process's identity. A new SVID takes the place of one that has lived for half its time.
class RotatingSource final : public identity::Source {
 public:
  // Both outlive it.
  RotatingSource(Process& process, const TrustDomain& domain) : process_(process), domain_(domain) {}

  std::shared_ptr<const identity::Identity> current() const override;

  // As the process's peers see it.
  rpc::Peer self() const;

 private:
  Process& process_;
  const TrustDomain& domain_;
  mutable std::shared_ptr<const identity::Identity> current_;
  mutable std::string certificate_;
  mutable base::WallTime renew_at_{};
};

}  // namespace sim
