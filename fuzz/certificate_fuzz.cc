// SPDX-License-Identifier: Apache-2.0
// Certificates, keys and requests for certificates in DER, as peers, a Workload API and nodes that join send them.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "identity/certificate.h"
#include "identity/server/minting.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view der(reinterpret_cast<const char*>(data), size);
  if (const auto chain = identity::parse_certificates(der)) {
    // Nobody's bundle is known, so nobody can be proven to be somebody.
    if (identity::verify_chain(*chain, identity::Bundles(), base::WallTime())) std::abort();
    for (const auto& certificate : *chain) {
      if (!identity::parse_certificates(identity::to_der(*certificate))) std::abort();
      (void)identity::leaf_id(*certificate);
      (void)identity::not_after(*certificate);
    }
    identity::Bundles bundles;
    if (!bundles.set("a.test", der)) std::abort();
    (void)identity::verify_chain(*chain, bundles, base::WallTime(std::chrono::hours(24 * 365 * 56)));
  }
  (void)identity::parse_private_key(der);
  (void)identity::parse_public_key(der);
  (void)identity::parse_csr(der);
  return 0;
}
