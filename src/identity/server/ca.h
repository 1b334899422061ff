// SPDX-License-Identifier: Apache-2.0
// The certificate authority of a trust domain: P-256 throughout, kept in one file of a private directory.
//
// A root is made for root_lifetime. When half of it is over the next one is made and published; it signs when everybody
// has had a sixth of a lifetime to hear of it; the old one is trusted until it expires.
//
//   root 1   |--------------------------------------------| signs until the arrow
//   root 2                         |------v-------------------------------------|
//            0                    1/2    2/3              1
//
// Each root comes with a key of its own that signs JWT-SVIDs, made, published and retired together with it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "identity/server/authority.h"

namespace identity {

class Ca {
 public:
  // What a root may live: much longer than the SVIDs it signs, and renewed while somebody still remembers how.
  static constexpr base::Duration kDefaultRootLifetime = std::chrono::hours(365 * 24);

  // Reads the directory's CA, or makes one. Whatever is damaged, of another trust domain, or open to others is refused.
  static base::Result<Ca> open(std::string trust_domain, std::string directory, base::Duration root_lifetime,
                               base::WallTime now);
  // Only reads. failed_precondition if there is none.
  static base::Result<Ca> read(std::string trust_domain, const std::string& directory, base::WallTime now);

  const std::string& trust_domain() const { return trust_domain_; }
  const std::shared_ptr<const Trust>& trust() const { return trust_; }
  base::Duration root_lifetime() const { return root_lifetime_; }
  std::size_t roots() const { return roots_.size(); }

  // Makes the next root and drops expired ones, if it is time. Whether trust has changed.
  base::Result<bool> rotate(base::WallTime now);

  // Shorter than the lifetime if the root is: no SVID outlives it.
  base::Result<CertificatePtr> issue(const SpiffeId& id, EVP_PKEY& subject_key, base::Duration lifetime,
                                     base::WallTime now) const;
  base::Result<X509Svid> issue(const SpiffeId& id, base::Duration lifetime, base::WallTime now) const;
  base::Result<std::string> sign_jwt(const SpiffeId& id, const std::vector<std::string>& audience,
                                     base::WallTime now) const;

 private:
  struct Root {
    CertificatePtr certificate;
    KeyPtr key;
    KeyPtr jwt_key;
    base::WallTime made() const;
    base::WallTime expires() const { return not_after(*certificate); }
    bool valid(base::WallTime now) const { return not_before(*certificate) <= now && now < expires(); }
    base::Duration life() const { return expires() - made(); }
  };
  Ca(SpiffeId id, std::string file, base::Duration root_lifetime);

  static base::Result<Ca> load(std::string trust_domain, const std::string& directory, base::Duration root_lifetime,
                               base::WallTime now);
  base::Result<void> parse(std::string_view text);
  base::Result<std::string> print() const;
  const Root* signer(base::WallTime now) const;
  void publish();

  SpiffeId id_;  // spiffe://TRUST-DOMAIN
  std::string trust_domain_;
  std::string file_;
  base::Duration root_lifetime_;
  std::vector<Root> roots_;  // oldest first
  std::shared_ptr<const Trust> trust_;
};

// The CA of this process.
class LocalAuthority final : public Authority {
 public:
  LocalAuthority(base::Scheduler& scheduler, Ca ca, base::Duration svid_lifetime);

  const std::string& trust_domain() const override { return ca_.trust_domain(); }
  std::shared_ptr<const Trust> trust() const override { return ca_.trust(); }
  base::Task<base::Result<X509Svid>> issue(SpiffeId id) override;
  base::Task<base::Result<std::string>> sign_jwt(SpiffeId id, std::vector<std::string> audience) override;

  const Ca& ca() const { return ca_; }
  base::Duration svid_lifetime() const { return svid_lifetime_; }

 private:
  void look_again();

  base::Scheduler& scheduler_;
  Ca ca_;
  const base::Duration svid_lifetime_;
  base::Timer timer_;
};

}  // namespace identity
