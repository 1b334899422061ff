// SPDX-License-Identifier: Apache-2.0
// Path tokens and SPIFFE IDs, as any peer may send them. Nothing that is made up verifies.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "identity/jwt.h"
#include "identity/spiffe_id.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const identity::KeyPtr key(EVP_EC_gen("P-256"));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto bytes = identity::base64url_decode(text); bytes && identity::base64url_encode(*bytes) != text) {
    std::abort();
  }
  if (const auto id = identity::SpiffeId::parse(text)) {
    if (id->text() != text || std::string("spiffe://").append(id->trust_domain()).append(id->path()) != text) {
      std::abort();
    }
  }
  if (const auto jwt = identity::parse_jwt(text)) {
    if (identity::verify_es256(*jwt, *key)) std::abort();
  }
  return 0;
}
