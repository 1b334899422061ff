// SPDX-License-Identifier: Apache-2.0
// Signed JWTs as SPIFFE and NSM use them: compact form, ES256 (RFC 7515, 7518, 7519).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base64url.h"
#include "base/result.h"
#include "base/scheduler.h"
#include "identity/openssl.h"

namespace identity {

inline constexpr std::size_t kMaxJwt = 8 << 10;  // bytes; larger ones are refused unread
inline constexpr std::size_t kMaxAudiences = 16;

using base::base64url_decode;
using base::base64url_encode;

// What a token says, proven or not.
struct Jwt {
  std::string algorithm;                     // "alg" of its header
  std::string key_id;                        // "kid"; empty: none
  std::string subject;                       // "sub"; empty: none
  std::vector<std::string> audience;         // "aud"
  bool audience_is_list = false;             // and not a lone string, or missing
  std::optional<base::WallTime> expires;     // "exp"
  std::optional<base::WallTime> not_before;  // "nbf"
  std::string signed_part;                   // what the signature is over
  std::string signature;                     // r and s, 32 bytes each, for ES256
};

// invalid_argument says what is wrong, without the token's text.
base::Result<Jwt> parse_jwt(std::string_view token);

// header and claims are JSON texts. internal if OpenSSL cannot.
base::Result<std::string> sign_jwt(std::string_view header, std::string_view claims, EVP_PKEY& p256);

// permission_denied unless its algorithm is ES256 and the P-256 key signed it.
base::Result<void> verify_es256(const Jwt& jwt, EVP_PKEY& key);

}  // namespace identity
