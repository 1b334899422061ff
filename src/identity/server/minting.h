// SPDX-License-Identifier: Apache-2.0
// Makes keys (ECDSA on P-256), certificates (X.509-SVIDs and the roots that sign them) and requests for them (PKCS#10).
// Pure functions, but for OpenSSL's randomness.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/scheduler.h"
#include "identity/certificate.h"

namespace identity {

// A certificate is valid from a little before it is made, for clocks that are a little behind.
inline constexpr base::Duration kBackdate = std::chrono::seconds(30);

base::Result<KeyPtr> new_key();
// PKCS#8, DER.
base::Result<std::string> to_pkcs8(EVP_PKEY& key);
// SubjectPublicKeyInfo, DER; and back. invalid_argument unless it is a P-256 key.
std::string public_to_der(EVP_PKEY& key);
base::Result<KeyPtr> parse_public_key(std::string_view der);
// The first 16 bytes of the SHA-256 of the public key, in hexadecimal digits.
std::string key_id(EVP_PKEY& key);

base::Result<CertificatePtr> new_root(const SpiffeId& trust_domain, EVP_PKEY& key, base::WallTime now,
                                      base::WallTime expires);
// For client and server. Requires a root that new_root() made, and its key.
base::Result<CertificatePtr> new_leaf(const SpiffeId& id, EVP_PKEY& subject_key, X509& root, EVP_PKEY& root_key,
                                      base::WallTime now, base::WallTime expires);

// Says nothing but: I hold the key. DER.
base::Result<std::string> new_csr(EVP_PKEY& key);
// The key it proves to hold. invalid_argument for garbage, other kinds of keys, and signatures by others.
base::Result<KeyPtr> parse_csr(std::string_view der);

}  // namespace identity
