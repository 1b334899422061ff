// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/path_token/spiffe_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "identity/jwt.h"

namespace mesh {

namespace {

constexpr std::size_t kMaxAudiences = 1000;  // then all are signed anew
constexpr std::string_view kHeader = R"({"alg":"ES256","typ":"JWT"})";

}  // namespace

Token SpiffeTokens::issue(const rpc::Peer& audience) {
  auto by = std::dynamic_pointer_cast<const identity::Identity>(audience.ours);
  if (!by) by = source_.current();
  const auto now = scheduler_.wall_now();
  if (!by) return {"", now};

  const auto expires = std::min(now + lifetime_, by->svid.expires());
  const std::int64_t seconds = std::chrono::floor<std::chrono::seconds>(expires).time_since_epoch().count();
  if (issued_.size() >= kMaxAudiences && !issued_.contains(audience.id)) issued_.clear();
  Issued& known = issued_[audience.id];
  if (known.by != by || known.expires != seconds) {
    nlohmann::ordered_json claims;
    if (!audience.id.empty()) claims["aud"] = nlohmann::ordered_json::array({audience.id});
    claims["exp"] = seconds;
    claims["sub"] = by->svid.id.text();
    auto token = identity::sign_jwt(kHeader, claims.dump(), *by->svid.key);
    if (!token) {
      base::log::error("{}", token.error().message());
      return {"", now};
    }
    known = Issued{std::move(by), seconds, std::move(*token)};
  }
  return {known.text, std::min(expires, audience.expires)};
}

}  // namespace mesh
