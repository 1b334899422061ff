// SPDX-License-Identifier: Apache-2.0
#include "identity/server/workload_api_server.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "base/log.h"
#include "identity/jwt.h"
#include "identity/server/minting.h"
#include "rpc/typed.h"
#include "workload.pb.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

constexpr base::Duration kSoonest = std::chrono::milliseconds(500);  // between two SVIDs, however short their lives
constexpr base::Duration kLookAgain = std::chrono::seconds(30);      // at the wall clock
constexpr base::Duration kRetry = std::chrono::seconds(5);           // after the authority could not issue

std::string domain_id(const std::string& trust_domain) { return "spiffe://" + trust_domain; }

Result<google::protobuf::Struct> claims_of(const std::string& token) {
  const auto first = token.find('.');
  const auto text = base64url_decode(std::string_view(token).substr(first + 1, token.find('.', first + 1) - first - 1));
  google::protobuf::Struct claims;
  if (!text || !google::protobuf::util::JsonStringToMessage(*text, &claims).ok()) {
    return fail(Code::invalid_argument, "the token's claims are not a JSON object");
  }
  return claims;
}

// invalid_argument says what is wrong, as the standard wants it.
Result<SpiffeId> check_token(const Jwt& jwt, const std::string& audience, const Trust& trust,
                             std::string_view trust_domain, base::WallTime now) {
  const auto refuse = [](std::string_view why) {
    return fail(Code::invalid_argument, "the token is not valid: {}", why);
  };
  const auto id = SpiffeId::parse(jwt.subject);
  if (!id) return refuse(id.error().message());
  if (id->trust_domain() != trust_domain) {
    return refuse(fmt::format("its subject {} is not of trust domain {}", id->text(), trust_domain));
  }
  const auto key = std::ranges::find(trust.jwt_keys, jwt.key_id, &JwtKey::id);
  if (key == trust.jwt_keys.end()) return refuse("it was signed with a key that is not in the bundle");
  if (auto signed_by_it = verify_es256(jwt, *key->key); !signed_by_it) return refuse(signed_by_it.error().message());
  if (!jwt.expires || *jwt.expires <= now) return refuse("it has expired");
  if (std::ranges::find(jwt.audience, audience) == jwt.audience.end()) {
    return refuse(fmt::format("it is not meant for '{}'", audience));
  }
  return *id;
}

}  // namespace

WorkloadApiServer::WorkloadApiServer(base::Scheduler& scheduler, Authority& authority, const AttestingSecurity& callers,
                                     Rules rules)
    : scheduler_(scheduler), authority_(authority), callers_(callers), rules_(std::move(rules)) {}

rpc::http2::Limits WorkloadApiServer::limits() {
  rpc::http2::Limits limits;
  limits.max_message = 64 << 10;
  limits.max_header_list = 16 << 10;
  limits.max_streams = 100;
  limits.max_incomplete = 256 << 10;
  return limits;
}

void WorkloadApiServer::set_rules(Rules rules) {
  rules_ = std::move(rules);
  authority_.changed().notify();
}

rpc::Services WorkloadApiServer::services() {
  const auto stream = [this](auto method) -> rpc::StreamHandler {
    return [this, method](rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& out) {
      return (this->*method)(call, std::move(body), out);
    };
  };
  const auto unary = [this](auto method) -> rpc::UnaryHandler {
    return [this, method](rpc::ServerCall& call, rpc::Bytes body) { return (this->*method)(call, std::move(body)); };
  };
  return {{"/SpiffeWorkloadAPI/FetchX509SVID", stream(&WorkloadApiServer::fetch_x509_svid)},
          {"/SpiffeWorkloadAPI/FetchX509Bundles", stream(&WorkloadApiServer::fetch_x509_bundles)},
          {"/SpiffeWorkloadAPI/FetchJWTSVID", unary(&WorkloadApiServer::fetch_jwt_svid)},
          {"/SpiffeWorkloadAPI/FetchJWTBundles", stream(&WorkloadApiServer::fetch_jwt_bundles)},
          {"/SpiffeWorkloadAPI/ValidateJWTSVID", unary(&WorkloadApiServer::validate_jwt_svid)}};
}

Result<WorkloadApiServer::Ids> WorkloadApiServer::admit(const rpc::ServerCall& call) const {
  // What a browser or a relay of HTTP cannot be talked into sending (Workload API standard, section 3).
  if (rpc::single_value(call.metadata, "workload.spiffe.io") != "true") {
    return fail(Code::invalid_argument, "the call lacks the metadata workload.spiffe.io: true: add it");
  }
  const auto caller = callers_.caller(rpc::peer_of(call.link));
  if (!caller || !caller->alive()) {
    return fail(Code::permission_denied, "the process that connected has ended: nobody is told its identity");
  }
  auto ids = rules_.ids_of(*caller);
  if (ids.empty()) {
    base::log::info("a caller without an identity ({}): no rule matches it", caller->text());
    return fail(Code::permission_denied,
                "no identity issued: no rule matches uid {}, executable {}: add one to PATCHBAY_IDENTITY_RULES",
                caller->uid, caller->executable.value_or("unknown"));
  }
  return ids;
}

Task<Result<WorkloadApiServer::Issued>> WorkloadApiServer::issue(Ids ids) {
  X509SVIDResponse response;
  const auto now = scheduler_.wall_now();
  auto soonest = base::Duration::max();
  for (const SpiffeId& id : ids) {
    auto svid = co_await authority_.issue(id);
    if (!svid) co_return std::unexpected(svid.error().wrap(id.text()));
    auto key = to_pkcs8(*svid->key);
    if (!key) co_return std::unexpected(key.error());
    auto& out = *response.add_svids();
    out.set_spiffe_id(id.text());
    for (const auto& certificate : svid->chain) out.mutable_x509_svid()->append(to_der(*certificate));
    out.set_x509_svid_key(std::move(*key));
    out.set_bundle(authority_.trust()->roots);
    soonest = std::min(soonest, (svid->expires() - now) / 2);
  }
  Issued issued;
  issued.response = response.SerializeAsString();
  issued.renew = now + std::max(soonest, kSoonest);
  co_return issued;
}

Task<Result<void>> WorkloadApiServer::fetch_x509_svid(rpc::ServerCall& call, rpc::Bytes body,
                                                      rpc::ServerStream& stream) {
  const auto request = rpc::parse<X509SVIDRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  bool told = false;
  for (;;) {
    const auto seen = authority_.changed().count();
    auto ids = admit(call);
    if (!ids) co_return std::unexpected(ids.error());
    auto issued = co_await issue(std::move(*ids));
    auto wake = scheduler_.now() + kRetry;
    auto renew = base::WallTime::max();
    if (issued) {
      renew = issued->renew;
      wake = scheduler_.now() + (issued->renew - scheduler_.wall_now());
      auto written = co_await stream.write(std::move(issued->response), {});
      if (!written) co_return written;
      told = true;
    } else if (!told) {
      co_return std::unexpected(issued.error());
    } else {
      base::log::warning("an SVID cannot be renewed yet: {}", issued.error().message());
    }
    // The wall clock may step, and goes on while the machine sleeps: look at it now and then.
    bool due = false;
    while (!due) {
      const auto look = std::min(wake, scheduler_.now() + kLookAgain);
      const bool go_on = co_await authority_.changed().wait(seen, look, call.stop);
      if (!go_on) co_return fail(Code::cancelled, "the call was cancelled");
      due = authority_.changed().count() != seen || scheduler_.now() >= wake || scheduler_.wall_now() >= renew;
    }
  }
}

Task<Result<void>> WorkloadApiServer::follow(rpc::ServerCall& call, rpc::ServerStream& stream,
                                             std::function<rpc::Bytes()> answer) {
  rpc::Bytes last;
  for (bool first = true;; first = false) {
    const auto seen = authority_.changed().count();
    if (const auto ids = admit(call); !ids) co_return std::unexpected(ids.error());
    auto next = answer();
    if (first || next != last) {
      last = next;
      auto written = co_await stream.write(std::move(next), {});
      if (!written) co_return written;
    }
    const bool go_on = co_await authority_.changed().wait(seen, base::kNoDeadline, call.stop);
    if (!go_on) co_return fail(Code::cancelled, "the call was cancelled");
  }
}

Task<Result<void>> WorkloadApiServer::fetch_x509_bundles(rpc::ServerCall& call, rpc::Bytes body,
                                                         rpc::ServerStream& stream) {
  const auto request = rpc::parse<X509BundlesRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  std::function<rpc::Bytes()> answer = [this] {
    X509BundlesResponse response;
    (*response.mutable_bundles())[domain_id(authority_.trust_domain())] = authority_.trust()->roots;
    return response.SerializeAsString();
  };
  co_return co_await follow(call, stream, std::move(answer));
}

Task<Result<void>> WorkloadApiServer::fetch_jwt_bundles(rpc::ServerCall& call, rpc::Bytes body,
                                                        rpc::ServerStream& stream) {
  const auto request = rpc::parse<JWTBundlesRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  std::function<rpc::Bytes()> answer = [this] {
    JWTBundlesResponse response;
    (*response.mutable_bundles())[domain_id(authority_.trust_domain())] = jwks(*authority_.trust());
    return response.SerializeAsString();
  };
  co_return co_await follow(call, stream, std::move(answer));
}

Task<Result<rpc::Bytes>> WorkloadApiServer::fetch_jwt_svid(rpc::ServerCall& call, rpc::Bytes body) {
  const auto request = rpc::parse<JWTSVIDRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  auto ids = admit(call);
  if (!ids) co_return std::unexpected(ids.error());
  const std::vector<std::string> audience(request->audience().begin(), request->audience().end());
  if (audience.empty() || std::ranges::find(audience, "") != audience.end()) {
    co_return fail(Code::invalid_argument, "the audience is empty: name at least one, and none by the empty text");
  }
  if (!request->spiffe_id().empty()) {
    std::erase_if(*ids, [&](const SpiffeId& id) { return id.text() != request->spiffe_id(); });
    if (ids->empty()) {
      co_return fail(Code::permission_denied, "the caller is not {}: ask for one of its own IDs", request->spiffe_id());
    }
  }
  JWTSVIDResponse response;
  for (const SpiffeId& id : *ids) {
    auto token = co_await authority_.sign_jwt(id, audience);
    if (!token) co_return std::unexpected(token.error().wrap(id.text()));
    auto& out = *response.add_svids();
    out.set_spiffe_id(id.text());
    out.set_svid(std::move(*token));
  }
  co_return response.SerializeAsString();
}

Task<Result<rpc::Bytes>> WorkloadApiServer::validate_jwt_svid(rpc::ServerCall& call, rpc::Bytes body) {
  const auto request = rpc::parse<ValidateJWTSVIDRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  if (const auto ids = admit(call); !ids) co_return std::unexpected(ids.error());
  if (request->audience().empty()) co_return fail(Code::invalid_argument, "the audience is empty: name your own");
  const auto jwt = parse_jwt(request->svid());
  if (!jwt) co_return std::unexpected(jwt.error());
  const auto id =
      check_token(*jwt, request->audience(), *authority_.trust(), authority_.trust_domain(), scheduler_.wall_now());
  if (!id) co_return std::unexpected(id.error());
  auto claims = claims_of(request->svid());
  if (!claims) co_return std::unexpected(claims.error());
  ValidateJWTSVIDResponse response;
  response.set_spiffe_id(id->text());
  *response.mutable_claims() = std::move(*claims);
  co_return response.SerializeAsString();
}

}  // namespace identity
