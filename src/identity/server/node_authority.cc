// SPDX-License-Identifier: Apache-2.0
#include "identity/server/node_authority.h"

#include <algorithm>

#include "base/log.h"
#include "identity/server/join_token.h"
#include "identity/server/minting.h"
#include "identity/server/node_service.h"
#include "identity/server/private_files.h"
#include "identity/server/trust_message.h"
#include "rpc/typed.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace proto = patchbay::identity;

namespace {

constexpr std::string_view kFile = "/node";
constexpr base::Duration kCallTime = std::chrono::seconds(10);
constexpr base::Duration kFirstDelay = std::chrono::milliseconds(500);  // between attempts, doubled each time
constexpr base::Duration kLongestDelay = std::chrono::seconds(30);

Authorize only_the_ca(const std::string& trust_domain) { return authorize_only({}, {ca_id(trust_domain)}); }

std::string der_of(const std::vector<CertificatePtr>& certificates) {
  std::string der;
  for (const auto& certificate : certificates) der += to_der(*certificate);
  return der;
}

// A key and the request for its certificate.
struct Wanted {
  std::string key;  // PKCS#8
  std::string csr;
};
Result<Wanted> want_certificate() {
  const auto key = new_key();
  if (!key) return std::unexpected(key.error());
  auto pkcs8 = to_pkcs8(**key);
  if (!pkcs8) return std::unexpected(pkcs8.error());
  auto csr = new_csr(**key);
  if (!csr) return std::unexpected(csr.error());
  return Wanted{std::move(*pkcs8), std::move(*csr)};
}

}  // namespace

NodeAuthority::NodeAuthority(base::EventLoop& loop, NodeOptions options)
    : Authority(loop),
      loop_(loop),
      options_(std::move(options)),
      tls_(loop, source_, only_the_ca(options_.trust_domain)),
      background_(loop) {}

// Connections show the SVID they were made with, so there is a new one for each.
void NodeAuthority::connect() {
  transport_ = std::make_unique<rpc::http2::Transport>(loop_, no_tokens_, tls_);
  if (auto channel = transport_->channel(options_.server)) channel_ = std::move(*channel);
}

Result<void> NodeAuthority::take_trust(const proto::Trust& message) {
  auto trust = from_message(message);
  if (!trust) return std::unexpected(trust.error());
  trust_ = std::move(*trust);
  return {};
}

Result<std::shared_ptr<const Identity>> NodeAuthority::identity_of(X509Svid svid) const {
  Bundles bundles;
  if (auto set = bundles.set(options_.trust_domain, trust_->roots); !set) return std::unexpected(set.error());
  return std::make_shared<const Identity>(std::move(svid), std::move(bundles));
}

Result<void> NodeAuthority::save() const {
  const auto& svid = source_.current()->svid;
  auto key = to_pkcs8(*svid.key);
  if (!key) return std::unexpected(key.error());
  proto::NodeState state;
  state.set_certificates(der_of(svid.chain));
  state.set_key(std::move(*key));
  *state.mutable_trust() = to_message(*trust_);
  return write_private_file(options_.directory + std::string(kFile), state.SerializeAsString());
}

Result<void> NodeAuthority::become(std::string_view certificates, std::string_view key) {
  const auto chain = parse_certificates(certificates);
  if (!chain) return std::unexpected(chain.error());
  const auto id = leaf_id(*chain->front());
  if (!id) return std::unexpected(id.error());
  if (!id->text().starts_with(node_id(options_.trust_domain, ""))) {
    return fail(Code::failed_precondition, "{} is no node of trust domain {}: set PATCHBAY_TRUST_DOMAIN to the CA's",
                id->text(), options_.trust_domain);
  }
  auto svid = parse_svid(id->text(), certificates, key);
  if (!svid) return std::unexpected(svid.error());
  auto identity = identity_of(std::move(*svid));
  if (!identity) return std::unexpected(identity.error());
  source_.set(std::move(*identity));
  connect();
  return {};
}

// Whether this machine is a node already.
Result<bool> NodeAuthority::load() {
  if (auto made = make_private_directory(options_.directory); !made) return std::unexpected(made.error());
  const auto path = options_.directory + std::string(kFile);
  const auto text = read_private_file(path);
  if (!text) return std::unexpected(text.error());
  if (!*text) return false;
  proto::NodeState state;
  auto done = state.ParseFromString(**text) ? take_trust(state.trust()) : fail(Code::data_loss, "it is damaged");
  if (done) done = become(state.certificates(), state.key());
  if (!done) {
    return fail(done.error().code(), "{} cannot be used: {}: move it away and join anew", path, done.error().message());
  }
  if (source_.current()->svid.expires() > loop_.wall_now()) return true;
  base::log::warning("the node's SVID has expired: it has to join anew");
  return false;
}

Task<Result<void>> NodeAuthority::join(base::TimePoint deadline, base::StopToken stop) {
  if (options_.join_token.empty()) {
    co_return fail(Code::failed_precondition,
                   "this machine is no node of {} yet: set PATCHBAY_JOIN_TOKEN to what `patchbay identity token --node "
                   "NAME` prints on the CA's",
                   options_.trust_domain);
  }
  auto token = parse_join_token(options_.join_token);
  if (!token) co_return std::unexpected(token.error());
  if (token->svid.id.trust_domain() != join_domain(options_.trust_domain)) {
    co_return fail(Code::failed_precondition, "the join token is for {}, not {}: set PATCHBAY_TRUST_DOMAIN to the CA's",
                   token->svid.id.trust_domain(), join_domain(options_.trust_domain));
  }
  if (token->svid.expires() <= loop_.wall_now()) {
    co_return fail(Code::permission_denied, "the join token has expired: make another one, with a longer --ttl");
  }
  auto wanted = want_certificate();
  if (!wanted) co_return std::unexpected(wanted.error());

  Bundles bundles;
  if (auto set = bundles.set(options_.trust_domain, token->roots); !set) co_return set;
  const FixedSource joining(std::make_shared<const Identity>(std::move(token->svid), std::move(bundles)));
  Tls tls(loop_, joining, only_the_ca(options_.trust_domain));
  rpc::http2::Transport transport(loop_, no_tokens_, tls);
  auto channel = transport.channel(options_.server);
  if (!channel) co_return std::unexpected(channel.error());
  proto::JoinRequest request;
  request.set_csr(wanted->csr);
  rpc::CallOptions call;
  call.deadline = deadline;
  call.stop = std::move(stop);
  auto reply =
      co_await rpc::unary<proto::JoinResponse>(*channel, "/patchbay.identity.Nodes/Join", request, std::move(call));
  if (!reply) {
    co_return std::unexpected(reply.error().wrap("cannot join " + options_.server));
  }
  if (auto taken = take_trust(reply->message.trust()); !taken) co_return taken;
  if (auto done = become(reply->message.certificates(), wanted->key); !done) co_return done;
  base::log::info("joined: this machine is {}", reply->message.spiffe_id());
  co_return save();
}

Task<Result<void>> NodeAuthority::start(base::TimePoint deadline, base::StopToken stop) {
  const auto known = load();
  if (!known) co_return std::unexpected(known.error());
  if (!*known) {
    auto joined = co_await join(deadline, std::move(stop));
    if (!joined) co_return joined;
  }
  background_.spawn(follow_trust());
  background_.spawn(keep_renewed());
  co_return Result<void>();
}

Task<void> NodeAuthority::finish() { co_await background_.finish(); }

Task<Result<X509Svid>> NodeAuthority::issue(SpiffeId id) {
  auto wanted = want_certificate();
  if (!wanted) co_return std::unexpected(wanted.error());
  proto::IssueRequest request;
  request.set_spiffe_id(id.text());
  request.set_csr(wanted->csr);
  rpc::CallOptions call;
  call.deadline = loop_.now() + kCallTime;
  auto reply =
      co_await rpc::unary<proto::IssueResponse>(channel_, "/patchbay.identity.Nodes/Issue", request, std::move(call));
  if (!reply) co_return std::unexpected(reply.error());
  co_return parse_svid(id.text(), reply->message.certificates(), wanted->key);
}

Task<Result<std::string>> NodeAuthority::sign_jwt(SpiffeId id, std::vector<std::string> audience) {
  proto::SignJwtRequest request;
  request.set_spiffe_id(id.text());
  for (auto& one : audience) request.add_audience(std::move(one));
  rpc::CallOptions call;
  call.deadline = loop_.now() + kCallTime;
  auto reply = co_await rpc::unary<proto::SignJwtResponse>(channel_, "/patchbay.identity.Nodes/SignJwt", request,
                                                           std::move(call));
  if (!reply) co_return std::unexpected(reply.error());
  co_return reply->message.token();
}

Task<Result<void>> NodeAuthority::renew() {
  auto wanted = want_certificate();
  if (!wanted) co_return std::unexpected(wanted.error());
  proto::RenewRequest request;
  request.set_csr(wanted->csr);
  rpc::CallOptions call;
  call.deadline = loop_.now() + kCallTime;
  call.stop = background_.stop_token();
  auto reply =
      co_await rpc::unary<proto::RenewResponse>(channel_, "/patchbay.identity.Nodes/Renew", request, std::move(call));
  if (!reply) co_return std::unexpected(reply.error());
  if (auto done = become(reply->message.certificates(), wanted->key); !done) co_return done;
  co_return save();
}

Task<void> NodeAuthority::keep_renewed() {
  const auto stop = background_.stop_token();
  auto delay = kFirstDelay;
  while (!stop.stopped()) {
    const auto& leaf = source_.current()->svid.leaf();
    const auto due = not_before(leaf) + (not_after(leaf) - not_before(leaf)) / 2;
    auto wait = due - loop_.wall_now();
    if (wait <= base::Duration::zero()) {
      const auto renewed = co_await renew();
      if (renewed) {
        delay = kFirstDelay;
        continue;
      }
      if (stop.stopped()) co_return;
      base::log::warning("the node's SVID cannot be renewed yet: {}", renewed.error().message());
      wait = delay;
      delay = std::min(2 * delay, kLongestDelay);
    }
    // The wall clock may be set meanwhile.
    co_await base::sleep_for(loop_, std::min(wait, kLongestDelay), stop);
  }
}

Result<void> NodeAuthority::heard(const std::string& message) {
  proto::Trust trust;
  if (!trust.ParseFromString(message)) {
    return fail(Code::data_loss, "the CA said {} bytes that are no trust", message.size());
  }
  if (trust.SerializeAsString() == to_message(*trust_).SerializeAsString()) return {};
  if (auto taken = take_trust(trust); !taken) return taken;
  const auto& own = source_.current()->svid;
  X509Svid svid{own.id, {}, share(own.key.get()), own.hint};
  for (const auto& certificate : own.chain) svid.chain.push_back(share(certificate.get()));
  auto identity = identity_of(std::move(svid));
  if (!identity) return std::unexpected(identity.error());
  source_.set(std::move(*identity));
  changed().notify();
  return save();
}

Task<void> NodeAuthority::follow_trust() {
  const auto stop = background_.stop_token();
  auto delay = kFirstDelay;
  while (!stop.stopped()) {
    rpc::CallOptions call;
    call.stop = stop;
    auto stream = co_await channel_->stream("/patchbay.identity.Nodes/WatchTrust", rpc::Bytes(), std::move(call));
    Result<void> well = stream ? Result<void>() : std::unexpected(stream.error());
    while (well) {
      auto message = co_await (*stream)->read();
      if (!message) {
        well = std::unexpected(message.error());
      } else if (!*message) {
        well = fail(Code::unavailable, "the CA ended the stream");
      } else {
        well = heard(**message);
        delay = kFirstDelay;
      }
    }
    if (stop.stopped()) co_return;
    base::log::info("trust of {} cannot be followed: {}", options_.trust_domain, well.error().message());
    co_await base::sleep_for(loop_, delay, stop);
    delay = std::min(2 * delay, kLongestDelay);
  }
}

}  // namespace identity
