// SPDX-License-Identifier: Apache-2.0
// X.509-SVIDs and trust bundles (SPIFFE standards X509-SVID and SPIFFE Trust Domain and Bundle): reading, checking and
// verifying. Values; nothing here knows where they come from. Pure functions, safe on any thread.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/scheduler.h"
#include "identity/openssl.h"
#include "identity/spiffe_id.h"

namespace identity {

// All certificates of concatenated DER. invalid_argument if the bytes are anything else or nothing.
base::Result<std::vector<CertificatePtr>> parse_certificates(std::string_view der);
std::string to_der(const X509& certificate);
std::string to_pem(const X509& certificate);
base::WallTime not_before(const X509& certificate);
base::WallTime not_after(const X509& certificate);

// PKCS#8, DER. invalid_argument unless it is an ECDSA key on P-256, which NSM's tokens need.
base::Result<KeyPtr> parse_private_key(std::string_view pkcs8);

// The one URI name of a leaf that is fit to be an X.509-SVID: not a CA, may sign (digitalSignature if it has key
// usages), signs no certificates or CRLs. permission_denied says what is wrong.
base::Result<SpiffeId> leaf_id(const X509& leaf);

// Roots by trust domain. Copies share the certificates.
class Bundles {
 public:
  // Replaces what the domain had.
  base::Result<void> set(const std::string& trust_domain, std::string_view der);
  // Nothing trusted: an empty list.
  std::span<const std::shared_ptr<X509>> roots(std::string_view trust_domain) const;
  const std::map<std::string, std::vector<std::shared_ptr<X509>>, std::less<>>& all() const { return domains_; }

 private:
  std::map<std::string, std::vector<std::shared_ptr<X509>>, std::less<>> domains_;
};

// Checks a chain, leaf first, against the bundle of the leaf's own trust domain and no other, at that time. Returns
// whose it is. permission_denied says what is wrong: no SVID, unknown domain, expired, not yet valid, signed by
// somebody else.
base::Result<SpiffeId> verify_chain(std::span<const CertificatePtr> chain, const Bundles& bundles, base::WallTime now);

// A process's own certificate and key.
struct X509Svid {
  SpiffeId id;
  std::vector<CertificatePtr> chain;  // leaf first
  KeyPtr key;
  std::string hint;

  const X509& leaf() const { return *chain.front(); }
  base::WallTime expires() const { return not_after(leaf()); }
};

// As the Workload API delivers it. invalid_argument unless the leaf is an SVID, the ID is the one given, and the key is
// the leaf's.
base::Result<X509Svid> parse_svid(std::string_view id, std::string_view chain_der, std::string_view key_pkcs8);

}  // namespace identity
