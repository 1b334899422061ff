// SPDX-License-Identifier: Apache-2.0
// Who signs for this machine: the CA in this process (LocalAuthority, ca.h), or one on another node (NodeAuthority,
// join.h). Belongs to one event loop's thread.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "identity/certificate.h"

namespace identity {

struct JwtKey {
  std::string id;
  std::shared_ptr<EVP_PKEY> key;  // public
};

// What proves an SVID of the trust domain. Never changes once made.
struct Trust {
  std::string roots;  // concatenated DER
  std::vector<JwtKey> jwt_keys;
};

// A JSON Web Key Set as the SPIFFE Trust Domain and Bundle standard wants it.
std::string jwks(const Trust& trust);

// Wakes all who wait that something has changed.
class Signal {
 public:
  explicit Signal(base::Scheduler& scheduler) : scheduler_(scheduler) {}

  void notify();
  // How often there was something to notify. Read it before looking at what may change.
  std::uint64_t count() const { return count_; }
  // Returns when the count is another than that, at that time, or when stopped; false in the last case.
  base::Task<bool> wait(std::uint64_t seen, base::TimePoint until, base::StopToken stop);

 private:
  base::Scheduler& scheduler_;
  std::uint64_t count_ = 0;
  std::list<base::OneShot<bool>> waiting_;
};

// The part of a trust domain's IDs that is our own: the CA's and the nodes'. No rule gives them away.
inline constexpr std::string_view kReservedPath = "/patchbay";

// Whether the ID is of the trust domain and not reserved: invalid_argument, permission_denied.
base::Result<void> check_issuable(const SpiffeId& id, std::string_view trust_domain);

// They cannot be taken back, so they are short-lived.
inline constexpr base::Duration kJwtLifetime = std::chrono::minutes(5);

class Authority {
 public:
  explicit Authority(base::Scheduler& scheduler) : changed_(scheduler) {}
  virtual ~Authority() = default;

  virtual const std::string& trust_domain() const = 0;
  virtual std::shared_ptr<const Trust> trust() const = 0;
  // With a fresh key.
  virtual base::Task<base::Result<X509Svid>> issue(SpiffeId id) = 0;
  virtual base::Task<base::Result<std::string>> sign_jwt(SpiffeId id, std::vector<std::string> audience) = 0;

  // Trust, or who may be whom.
  Signal& changed() { return changed_; }

 private:
  Signal changed_;
};

}  // namespace identity
