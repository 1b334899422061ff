// SPDX-License-Identifier: Apache-2.0
#include "identity/token_verifier.h"

#include <array>

#include "identity/certificate.h"

namespace identity {

using base::Code;
using base::fail;

namespace {

constexpr std::size_t kMaxKeys = 1000;  // peers of a node, and then some

std::string sha256(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr);
  return {reinterpret_cast<const char*>(digest.data()), length};
}

}  // namespace

base::Result<TokenVerifier::Kept*> TokenVerifier::find(const std::string& token) {
  if (token.size() > kMaxJwt) return std::unexpected(parse_jwt(token).error());
  std::string digest = sha256(token);
  const auto found = kept_.find(digest);
  if (found != kept_.end()) return &found->second;
  auto jwt = parse_jwt(token);
  if (!jwt) return std::unexpected(jwt.error());
  make_room(token.size());
  const auto age = next_age_++;
  by_age_.emplace(age, digest);
  auto& kept = kept_[std::move(digest)];
  kept.jwt = std::make_shared<const Jwt>(std::move(*jwt));
  kept.age = age;
  kept.bytes = token.size();
  bytes_ += kept.bytes;
  return &kept;
}

// Tokens expire about in the order they came, so the oldest tell when there is something to forget.
void TokenVerifier::make_room(std::size_t bytes) {
  const auto now = scheduler_.wall_now();
  while (!by_age_.empty()) {
    const auto oldest = kept_.find(by_age_.begin()->second);
    const auto expires = oldest->second.jwt->expires;
    if (kept_.size() < kMaxKept && bytes_ + bytes <= kMaxBytes && expires && *expires > now) return;
    bytes_ -= oldest->second.bytes;
    kept_.erase(oldest);
    by_age_.erase(by_age_.begin());
  }
}

base::Result<std::shared_ptr<const Jwt>> TokenVerifier::read(const std::string& token) {
  const auto kept = find(token);
  if (!kept) return std::unexpected(kept.error());
  return (*kept)->jwt;
}

base::Result<void> TokenVerifier::signed_by(const std::string& token, const std::string& certificate) {
  const auto kept = find(token);
  if (!kept) return fail(Code::permission_denied, "{}", kept.error().message());
  if (certificate.empty()) {
    return fail(Code::permission_denied, "there is no certificate that could prove the token: use mutual TLS");
  }
  const std::string digest = sha256(certificate);
  if ((*kept)->verified_for == digest) return {};
  auto key = keys_.find(digest);
  if (key == keys_.end()) {
    auto parsed = parse_certificates(certificate);
    if (!parsed) return fail(Code::permission_denied, "{}", parsed.error().message());
    if (keys_.size() >= kMaxKeys) keys_.clear();
    key = keys_.emplace(digest, std::shared_ptr<EVP_PKEY>(X509_get_pubkey(parsed->front().get()), EVP_PKEY_free)).first;
  }
  if (key->second == nullptr) return fail(Code::permission_denied, "the certificate has no key that can be used");
  ++verified_;
  auto holds = verify_es256(*(*kept)->jwt, *key->second);
  if (holds) (*kept)->verified_for = digest;
  return holds;
}

}  // namespace identity
