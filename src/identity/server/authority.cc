// SPDX-License-Identifier: Apache-2.0
#include "identity/server/authority.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>

#include <array>
#include <nlohmann/json.hpp>

#include "identity/jwt.h"

namespace identity {

using base::Code;
using base::fail;

namespace {

using BignumPtr = Owned<BIGNUM, &BN_free>;

constexpr int kCoordinate = 32;  // bytes, on P-256

std::string coordinate(const EVP_PKEY& key, const char* name) {
  BIGNUM* number = nullptr;
  if (EVP_PKEY_get_bn_param(&key, name, &number) != 1) return {};
  const BignumPtr owner(number);
  std::array<unsigned char, kCoordinate> bytes{};
  BN_bn2binpad(number, bytes.data(), kCoordinate);
  return base64url_encode({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

std::string jwks(const Trust& trust) {
  auto keys = nlohmann::json::array();
  for (const auto& [id, key] : trust.jwt_keys) {
    keys.push_back({{"kty", "EC"},
                    {"use", "jwt-svid"},
                    {"kid", id},
                    {"crv", "P-256"},
                    {"x", coordinate(*key, OSSL_PKEY_PARAM_EC_PUB_X)},
                    {"y", coordinate(*key, OSSL_PKEY_PARAM_EC_PUB_Y)}});
  }
  return nlohmann::json{{"keys", std::move(keys)}}.dump();
}

base::Result<void> check_issuable(const SpiffeId& id, std::string_view trust_domain) {
  if (id.trust_domain() != trust_domain) {
    return fail(Code::invalid_argument, "{} is not of trust domain {}: only its own IDs can be issued", id.text(),
                trust_domain);
  }
  const auto path = id.path();
  if (path.empty()) {
    return fail(Code::permission_denied, "{} is the trust domain itself, nobody's ID: add a path", id.text());
  }
  if (path == kReservedPath || path.starts_with(std::string(kReservedPath) + "/")) {
    return fail(Code::permission_denied, "{} is reserved for Patchbay's own nodes: choose a path outside of {}",
                id.text(), kReservedPath);
  }
  return {};
}

void Signal::notify() {
  ++count_;
  for (const auto& waiter : std::exchange(waiting_, {})) waiter.set(true);
}

base::Task<bool> Signal::wait(std::uint64_t seen, base::TimePoint until, base::StopToken stop) {
  if (stop.stopped()) co_return false;
  if (seen != count_) co_return true;
  base::OneShot<bool> woken(scheduler_);
  std::erase_if(waiting_, [](const auto& waiter) { return waiter.settled(); });
  waiting_.push_back(woken);
  const base::TimerId timer = until == base::kNoDeadline ? 0 : scheduler_.post_at(until, [woken] { woken.set(true); });
  const auto registration = stop.on_stop([woken] { woken.set(false); });
  const bool go = co_await woken;
  scheduler_.cancel(timer);
  co_return go;
}

}  // namespace identity
