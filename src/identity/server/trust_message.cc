// SPDX-License-Identifier: Apache-2.0
#include "identity/server/trust_message.h"

#include "identity/server/minting.h"

namespace identity {

patchbay::identity::Trust to_message(const Trust& trust) {
  patchbay::identity::Trust message;
  message.set_roots(trust.roots);
  for (const auto& [id, key] : trust.jwt_keys) {
    auto& out = *message.add_jwt_keys();
    out.set_id(id);
    out.set_key(public_to_der(*key));
  }
  return message;
}

base::Result<std::shared_ptr<const Trust>> from_message(const patchbay::identity::Trust& message) {
  if (const auto roots = parse_certificates(message.roots()); !roots) return std::unexpected(roots.error());
  auto trust = std::make_shared<Trust>();
  trust->roots = message.roots();
  for (const auto& one : message.jwt_keys()) {
    auto key = parse_public_key(one.key());
    if (!key) return std::unexpected(key.error());
    trust->jwt_keys.push_back({one.id(), std::shared_ptr<EVP_PKEY>(std::move(*key))});
  }
  return trust;
}

}  // namespace identity
