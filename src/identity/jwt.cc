// SPDX-License-Identifier: Apache-2.0
#include "identity/jwt.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

namespace identity {

using base::Code;
using base::fail;
using nlohmann::json;

namespace {

constexpr std::size_t kHalf = 32;          // bytes of r, and of s
constexpr double kLatest = 9'000'000'000;  // seconds: the year 2255, well inside what base::WallTime holds

using SignaturePtr = Owned<ECDSA_SIG, &ECDSA_SIG_free>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// An object of the token; nothing if it is none.
std::optional<json> object(std::string_view part) {
  const auto text = base64url_decode(part);
  if (!text) return std::nullopt;
  json parsed = json::parse(*text, nullptr, false);
  if (!parsed.is_object()) return std::nullopt;
  return parsed;
}

// Leaves the field as it is if the claim is missing; false if it is no time.
bool read_time(const json& claims, const char* key, std::optional<base::WallTime>& field) {
  const auto found = claims.find(key);
  if (found == claims.end()) return true;
  if (!found->is_number()) return false;
  const double seconds = found->get<double>();
  if (!std::isfinite(seconds) || seconds < -kLatest || seconds > kLatest) return false;
  field = base::WallTime(std::chrono::seconds(static_cast<std::int64_t>(seconds)));
  return true;
}

std::string text_at(const json& from, const char* key) {
  const auto found = from.find(key);
  return found != from.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

base::Result<Jwt> parse_jwt(std::string_view token) {
  const auto refuse = [](std::string_view why) { return fail(Code::invalid_argument, "the token is no JWT: {}", why); };
  if (token.size() > kMaxJwt) {
    return fail(Code::invalid_argument, "the token has {} bytes, the limit is {}", token.size(), kMaxJwt);
  }
  const auto first = token.find('.');
  const auto second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return refuse("it does not have three parts");
  }
  const auto header = object(token.substr(0, first));
  const auto claims = object(token.substr(first + 1, second - first - 1));
  auto signature = base64url_decode(token.substr(second + 1));
  if (!header || !claims || !signature) return refuse("a part of it is not what it should be in base64url");

  Jwt jwt;
  jwt.algorithm = text_at(*header, "alg");
  jwt.key_id = text_at(*header, "kid");
  if (header->contains("crit")) return refuse("its header demands extensions");
  jwt.subject = text_at(*claims, "sub");
  if (const auto audience = claims->find("aud"); audience != claims->end()) {
    if (audience->is_string()) {
      jwt.audience.push_back(audience->get<std::string>());
    } else if (audience->is_array()) {
      jwt.audience_is_list = true;
      if (audience->size() > kMaxAudiences) return refuse("it has too many audiences");
      for (const auto& one : *audience) {
        if (!one.is_string()) return refuse("an audience of it is no text");
        jwt.audience.push_back(one.get<std::string>());
      }
    } else {
      return refuse("its audience is neither a text nor a list");
    }
  }
  if (!read_time(*claims, "exp", jwt.expires) || !read_time(*claims, "nbf", jwt.not_before)) {
    return refuse("a time of it is no number, or out of range");
  }
  jwt.signed_part = token.substr(0, second);
  jwt.signature = std::move(*signature);
  return jwt;
}

base::Result<std::string> sign_jwt(std::string_view header, std::string_view claims, EVP_PKEY& p256) {
  std::string token = base64url_encode(header) + '.' + base64url_encode(claims);
  const auto failed = [] { return fail(Code::internal, "cannot sign a token: {}", last_error()); };
  const DigestPtr context(EVP_MD_CTX_new());
  std::array<unsigned char, 128> der{};
  std::size_t length = der.size();
  if (!context || EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, &p256) != 1 ||
      EVP_DigestSign(context.get(), der.data(), &length, bytes_of(token), token.size()) != 1) {
    return failed();
  }
  const unsigned char* next = der.data();
  const SignaturePtr signature(d2i_ECDSA_SIG(nullptr, &next, static_cast<long>(length)));
  if (!signature) return failed();
  std::array<unsigned char, 2 * kHalf> raw{};
  if (BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), raw.data(), kHalf) != static_cast<int>(kHalf) ||
      BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), raw.data() + kHalf, kHalf) != static_cast<int>(kHalf)) {
    return failed();
  }
  return token + '.' + base64url_encode({reinterpret_cast<const char*>(raw.data()), raw.size()});
}

base::Result<void> verify_es256(const Jwt& jwt, EVP_PKEY& key) {
  const auto refuse = [](std::string_view why) {
    return fail(Code::permission_denied, "the token's signature does not hold: {}", why);
  };
  if (jwt.algorithm != "ES256") return refuse("its algorithm is not ES256");
  if (jwt.signature.size() != 2 * kHalf) return refuse("it is not 64 bytes long");
  if (EVP_PKEY_get_base_id(&key) != EVP_PKEY_EC || EVP_PKEY_get_bits(&key) != 256)
    return refuse("the key is not P-256");
  const auto* raw = bytes_of(jwt.signature);
  SignaturePtr signature(ECDSA_SIG_new());
  // The signature owns both numbers once it is given them.
  BIGNUM* r = BN_bin2bn(raw, kHalf, nullptr);
  BIGNUM* s = BN_bin2bn(raw + kHalf, kHalf, nullptr);
  if (!signature || r == nullptr || s == nullptr || ECDSA_SIG_set0(signature.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return fail(Code::internal, "cannot verify a token: {}", last_error());
  }
  unsigned char* der = nullptr;
  const int length = i2d_ECDSA_SIG(signature.get(), &der);
  const DigestPtr context(EVP_MD_CTX_new());
  const bool holds = length > 0 && context &&
                     EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, &key) == 1 &&
                     EVP_DigestVerify(context.get(), der, static_cast<std::size_t>(length), bytes_of(jwt.signed_part),
                                      jwt.signed_part.size()) == 1;
  OPENSSL_free(der);
  if (holds) return {};
  last_error();
  return refuse("another key signed it, or it was changed");
}

}  // namespace identity
