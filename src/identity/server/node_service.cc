// SPDX-License-Identifier: Apache-2.0
#include "identity/server/node_service.h"

#include <algorithm>

#include "base/log.h"
#include "identity/server/join_token.h"
#include "identity/server/minting.h"
#include "identity/server/trust_message.h"
#include "rpc/typed.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace proto = patchbay::identity;

std::string ca_id(std::string_view trust_domain) {
  return fmt::format("spiffe://{}{}/ca", trust_domain, kReservedPath);
}

NodeService::NodeService(base::Scheduler& scheduler, LocalAuthority& authority, LocalAuthority& join_authority,
                         std::string directory, std::function<const Rules&()> rules)
    : scheduler_(scheduler),
      authority_(authority),
      join_authority_(join_authority),
      directory_(std::move(directory)),
      rules_(std::move(rules)),
      node_prefix_(node_id(authority.trust_domain(), "")) {}

std::shared_ptr<const Identity> NodeService::current() const {
  const auto now = scheduler_.wall_now();
  const auto trust = authority_.trust();
  const auto join_trust = join_authority_.trust();
  if (made_.trust == trust && made_.join_trust == join_trust && now < made_.renew) return made_.identity;

  const auto id = SpiffeId::parse(ca_id(authority_.trust_domain()));
  auto svid = id ? authority_.ca().issue(*id, authority_.svid_lifetime(), now) : std::unexpected(id.error());
  Bundles bundles;
  const auto known = bundles.set(authority_.trust_domain(), trust->roots);
  const auto joining = bundles.set(join_authority_.trust_domain(), join_trust->roots);
  if (!svid || !known || !joining) {
    base::log::error("the CA cannot make its own SVID: {}", (!svid    ? svid.error()
                                                             : !known ? known.error()
                                                                      : joining.error())
                                                                .message());
    return made_.identity;
  }
  const auto renew = now + (svid->expires() - now) / 2;
  made_ = Made{std::make_shared<const Identity>(std::move(*svid), std::move(bundles)), trust, join_trust, renew};
  return made_.identity;
}

Authorize NodeService::authorize() const {
  return [nodes = node_prefix_, joining = join_authority_.trust_domain()](const SpiffeId& peer) -> Result<void> {
    if (peer.trust_domain() == joining || peer.text().starts_with(nodes)) return {};
    return fail(Code::permission_denied, "{} is neither a node nor does it hold a join token", peer.text());
  };
}

rpc::Services NodeService::services() {
  const auto unary = [this](auto method) -> rpc::UnaryHandler {
    return [this, method](rpc::ServerCall& call, rpc::Bytes body) { return (this->*method)(call, std::move(body)); };
  };
  const rpc::StreamHandler watch = [this](rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream) {
    return watch_trust(call, std::move(body), stream);
  };
  return {{"/patchbay.identity.Nodes/Join", unary(&NodeService::join)},
          {"/patchbay.identity.Nodes/Renew", unary(&NodeService::renew)},
          {"/patchbay.identity.Nodes/Issue", unary(&NodeService::issue)},
          {"/patchbay.identity.Nodes/SignJwt", unary(&NodeService::sign_jwt)},
          {"/patchbay.identity.Nodes/WatchTrust", watch}};
}

Result<std::string> NodeService::node_of(const rpc::ServerCall& call) const {
  const auto& peer = rpc::peer_of(call.link);
  if (!peer.id.starts_with(node_prefix_)) {
    return fail(Code::permission_denied, "{}: {} is no node: join first", call.method, peer.id);
  }
  // The handshake was some time ago.
  if (peer.expires <= scheduler_.wall_now()) {
    return fail(Code::unauthenticated, "{}: the SVID of {} has expired: connect with a new one", call.method, peer.id);
  }
  auto node = peer.id.substr(node_prefix_.size());
  if (!rules_().admits(node)) {
    return fail(Code::permission_denied, "node {} is shut out by the CA's rules", node);
  }
  return node;
}

Result<std::string> NodeService::issue_to(const SpiffeId& id, std::string_view csr, base::Duration lifetime) const {
  const auto key = parse_csr(csr);
  if (!key) return std::unexpected(key.error());
  const auto leaf = authority_.ca().issue(id, **key, lifetime, scheduler_.wall_now());
  if (!leaf) return std::unexpected(leaf.error());
  return to_der(**leaf);
}

Task<Result<rpc::Bytes>> NodeService::join(rpc::ServerCall& call, rpc::Bytes body) {
  const auto request = rpc::parse<proto::JoinRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  const auto& peer = rpc::peer_of(call.link);
  if (!peer.id.starts_with("spiffe://" + join_authority_.trust_domain() + "/")) {
    co_return fail(Code::permission_denied, "{}: {} holds no join token", call.method, peer.id);
  }
  if (peer.expires <= scheduler_.wall_now()) {
    co_return fail(Code::permission_denied, "the join token has expired: make another one");
  }
  // A token is not spent on a request that cannot be granted.
  if (const auto csr = parse_csr(request->csr()); !csr) co_return std::unexpected(csr.error());
  const auto node = take_join_token(directory_, peer.certificate);
  if (!node) co_return std::unexpected(node.error());
  if (!rules_().admits(*node)) {
    co_return fail(Code::permission_denied, "node {} is shut out by the CA's rules", *node);
  }
  const auto id = SpiffeId::parse(node_id(authority_.trust_domain(), *node));
  if (!id) co_return std::unexpected(id.error());
  auto certificates = issue_to(*id, request->csr(), kNodeSvidLifetime);
  if (!certificates) co_return std::unexpected(certificates.error());
  base::log::info("node {} has joined", *node);
  proto::JoinResponse response;
  response.set_spiffe_id(id->text());
  response.set_certificates(std::move(*certificates));
  *response.mutable_trust() = to_message(*authority_.trust());
  co_return response.SerializeAsString();
}

Task<Result<rpc::Bytes>> NodeService::renew(rpc::ServerCall& call, rpc::Bytes body) {
  const auto request = rpc::parse<proto::RenewRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  const auto node = node_of(call);
  if (!node) co_return std::unexpected(node.error());
  const auto id = SpiffeId::parse(node_id(authority_.trust_domain(), *node));
  if (!id) co_return std::unexpected(id.error());
  auto certificates = issue_to(*id, request->csr(), kNodeSvidLifetime);
  if (!certificates) co_return std::unexpected(certificates.error());
  proto::RenewResponse response;
  response.set_certificates(std::move(*certificates));
  co_return response.SerializeAsString();
}

Task<Result<rpc::Bytes>> NodeService::issue(rpc::ServerCall& call, rpc::Bytes body) {
  const auto request = rpc::parse<proto::IssueRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  const auto node = node_of(call);
  if (!node) co_return std::unexpected(node.error());
  const auto id = SpiffeId::parse(request->spiffe_id());
  if (!id) co_return std::unexpected(id.error());
  if (const auto allowed = rules_().check_node(*node, *id); !allowed) co_return std::unexpected(allowed.error());
  auto certificates = issue_to(*id, request->csr(), authority_.svid_lifetime());
  if (!certificates) co_return std::unexpected(certificates.error());
  proto::IssueResponse response;
  response.set_certificates(std::move(*certificates));
  co_return response.SerializeAsString();
}

Task<Result<rpc::Bytes>> NodeService::sign_jwt(rpc::ServerCall& call, rpc::Bytes body) {
  const auto request = rpc::parse<proto::SignJwtRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  const auto node = node_of(call);
  if (!node) co_return std::unexpected(node.error());
  const auto id = SpiffeId::parse(request->spiffe_id());
  if (!id) co_return std::unexpected(id.error());
  if (const auto allowed = rules_().check_node(*node, *id); !allowed) co_return std::unexpected(allowed.error());
  std::vector<std::string> audience(request->audience().begin(), request->audience().end());
  if (audience.empty()) co_return fail(Code::invalid_argument, "a JWT-SVID needs an audience: name at least one");
  auto token = co_await authority_.sign_jwt(*id, std::move(audience));
  if (!token) co_return std::unexpected(token.error());
  proto::SignJwtResponse response;
  response.set_token(std::move(*token));
  co_return response.SerializeAsString();
}

Task<Result<void>> NodeService::watch_trust(rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream) {
  const auto request = rpc::parse<proto::WatchTrustRequest>(body, call.method);
  if (!request) co_return std::unexpected(request.error());
  std::shared_ptr<const Trust> told;
  for (;;) {
    const auto seen = authority_.changed().count();
    if (const auto node = node_of(call); !node) co_return std::unexpected(node.error());
    if (auto trust = authority_.trust(); trust != told) {
      told = std::move(trust);
      auto written = co_await stream.write(to_message(*told).SerializeAsString(), {});
      if (!written) co_return written;
    }
    const auto left = rpc::peer_of(call.link).expires - scheduler_.wall_now();
    const bool go_on =
        co_await authority_.changed().wait(seen, base::saturating_add(scheduler_.now(), left), call.stop);
    if (!go_on) co_return fail(Code::cancelled, "the call was cancelled");
  }
}

}  // namespace identity
