// SPDX-License-Identifier: Apache-2.0
// Path tokens that come again and again, read and verified once: results are kept by digest until the token expires.
// Belongs to one event loop's thread.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/scheduler.h"
#include "identity/jwt.h"

namespace identity {

class TokenVerifier {
 public:
  static constexpr std::size_t kMaxKept = 20'000;     // then the oldest go
  static constexpr std::size_t kMaxBytes = 16 << 20;  // of the tokens kept

  explicit TokenVerifier(base::Scheduler& scheduler) : scheduler_(scheduler) {}

  // What the token says. invalid_argument if it is no JWT.
  base::Result<std::shared_ptr<const Jwt>> read(const std::string& token);
  // permission_denied unless the key of this X.509 certificate (DER) signed the token by ES256.
  base::Result<void> signed_by(const std::string& token, const std::string& certificate);

  std::size_t kept() const { return kept_.size(); }
  std::size_t verified() const { return verified_; }  // signatures really looked at

 private:
  struct Kept {
    std::shared_ptr<const Jwt> jwt;
    std::string verified_for;  // digest of the certificate whose key it verified with; empty: none yet
    std::uint64_t age = 0;
    std::size_t bytes = 0;
  };
  base::Result<Kept*> find(const std::string& token);
  void make_room(std::size_t bytes);

  base::Scheduler& scheduler_;
  std::map<std::string, Kept> kept_;  // by SHA-256 of the token
  std::map<std::uint64_t, std::string> by_age_;
  std::map<std::string, std::shared_ptr<EVP_PKEY>> keys_;  // by SHA-256 of the certificate
  std::uint64_t next_age_ = 0;
  std::size_t bytes_ = 0;
  std::size_t verified_ = 0;
};

}  // namespace identity
