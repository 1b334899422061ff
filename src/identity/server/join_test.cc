// SPDX-License-Identifier: Apache-2.0
// A CA and nodes of it over TCP and TLS, in one process.
#include <gmock/gmock.h>

#include "identity.pb.h"
#include "identity/jwt.h"
#include "identity/server/join_token.h"
#include "identity/server/minting.h"
#include "identity/server/node_authority.h"
#include "identity/server/node_service.h"
#include "identity/server/testing.h"

namespace identity {
namespace {

using base::Code;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

namespace proto = patchbay::identity;

struct Joinable : testing::World {
  explicit Joinable(base::Duration root_lifetime = hours(9))
      : World(hours(1), root_lifetime),
        join_authority(loop, *open_join_ca("a.test", directory, root_lifetime, loop.wall_now()), hours(1)),
        service(loop, authority, join_authority, directory, [this]() -> const Rules& { return rules; }),
        tls(loop, service, service.authorize()),
        transport(loop, no_tokens, tls) {
    listener = *transport.listen("tcp://127.0.0.1:0", services);
  }
  ~Joinable() { wait(finish()); }
  base::Task<bool> finish() {
    co_await listener->finish();
    co_return true;
  }
  template <typename T>
  base::Task<bool> finished(T& node) {
    co_await node.finish();
    co_return true;
  }

  std::string token(const std::string& node = "edge", base::Duration lifetime = minutes(5)) {
    auto made = make_join_token("a.test", directory, node, lifetime, loop.wall_now());
    EXPECT_TRUE(made) << made.error().message();
    return made.value_or("");
  }
  std::unique_ptr<NodeAuthority> node(const std::string& join_token, const std::string& name = "node") {
    NodeOptions options{"a.test", listener->url(), scratch.path() + "/" + name, join_token};
    return std::make_unique<NodeAuthority>(loop, std::move(options));
  }
  base::Result<void> start(NodeAuthority& node) {
    return wait(node.start(loop.now() + seconds(10), base::StopToken()));
  }
  // What the service says to a peer with this SVID.
  template <typename Response, typename Request>
  base::Result<Response> ask(const X509Svid& svid, const std::string& method, const Request& request) {
    Bundles bundles;
    EXPECT_TRUE(bundles.set("a.test", authority.trust()->roots));
    X509Svid own{svid.id, {}, share(svid.key.get()), {}};
    own.chain.push_back(share(svid.chain.front().get()));
    const FixedSource source(std::make_shared<const Identity>(std::move(own), std::move(bundles)));
    Tls client(loop, source);
    rpc::http2::Transport plain(loop, no_tokens, client);
    auto channel = *plain.channel(listener->url());
    rpc::CallOptions call;
    call.deadline = loop.now() + seconds(10);
    auto reply = wait(rpc::unary<Response>(channel, "/patchbay.identity.Nodes/" + method, request, std::move(call)));
    if (!reply) return std::unexpected(reply.error());
    return reply->message;
  }
  X509Svid svid(const std::string& id, base::WallTime now) {
    return *authority.ca().issue(*SpiffeId::parse(id), hours(1), now);
  }
  X509Svid svid(const std::string& id) { return svid(id, loop.wall_now()); }

  static proto::IssueRequest issue_request(const std::string& id) {
    proto::IssueRequest request;
    request.set_spiffe_id(id);
    request.set_csr(*new_csr(**new_key()));
    return request;
  }
  static proto::JoinRequest join_request() {
    proto::JoinRequest request;
    request.set_csr(*new_csr(**new_key()));
    return request;
  }

  Rules rules = Rules::standard(testing::kPlace);
  LocalAuthority join_authority;
  NodeService service;
  Tls tls;
  rpc::http2::NoCredentials no_tokens;
  rpc::http2::Transport transport;
  const rpc::Services services = service.services();
  std::unique_ptr<rpc::Listener> listener;
};

const SpiffeId kWorkload = *SpiffeId::parse("spiffe://a.test/workload");

TEST(JoinTest, ANodeIssuesForItsCallers) {
  Joinable world;
  auto node = world.node(world.token());
  const auto started = world.start(*node);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_EQ(node->source().current()->svid.id.text(), "spiffe://a.test/patchbay/node/edge");
  EXPECT_EQ(node->trust()->roots, world.authority.trust()->roots);

  const auto svid = world.wait(node->issue(kWorkload));
  ASSERT_TRUE(svid) << svid.error().message();
  Bundles bundles;
  ASSERT_TRUE(bundles.set("a.test", world.authority.trust()->roots));
  EXPECT_TRUE(verify_chain(svid->chain, bundles, world.loop.wall_now()));

  const auto token = world.wait(node->sign_jwt(kWorkload, {"x"}));
  ASSERT_TRUE(token);
  const auto jwt = parse_jwt(*token);
  EXPECT_EQ(jwt->subject, kWorkload.text());
  EXPECT_TRUE(verify_es256(*jwt, *node->trust()->jwt_keys.at(0).key));
  world.wait(world.finished(*node));
}

TEST(JoinTest, ARestartNeedsNoToken) {
  Joinable world;
  auto first = world.node(world.token());
  ASSERT_TRUE(world.start(*first));
  world.wait(world.finished(*first));
  auto second = world.node("");
  const auto started = world.start(*second);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_TRUE(world.wait(second->issue(kWorkload)));
  world.wait(world.finished(*second));
}

TEST(JoinTest, ANodeRenewsItself) {
  Joinable world;
  auto node = world.node(world.token());
  ASSERT_TRUE(world.start(*node));
  const auto before = to_der(node->source().current()->svid.leaf());
  const auto renewed = world.wait(node->renew());
  ASSERT_TRUE(renewed) << renewed.error().message();
  EXPECT_NE(to_der(node->source().current()->svid.leaf()), before);
  EXPECT_TRUE(world.wait(node->issue(kWorkload)));
  world.wait(world.finished(*node));
}

TEST(JoinTest, NodesHearOfNewRoots) {
  Joinable world(seconds(6));
  auto node = world.node(world.token());
  ASSERT_TRUE(world.start(*node));
  const auto seen = node->changed().count();
  EXPECT_TRUE(world.loop.run_until([&] { return node->changed().count() != seen; }, seconds(10)));
  EXPECT_EQ(parse_certificates(node->trust()->roots)->size(), 2U);
  EXPECT_EQ(node->source().current()->bundles.roots("a.test").size(), 2U);
  world.wait(world.finished(*node));
}

TEST(JoinTest, WithoutATokenNobodyJoins) {
  Joinable world;
  const auto started = world.start(*world.node(""));
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("PATCHBAY_JOIN_TOKEN"));
  EXPECT_THAT(world.start(*world.node("garbage")).error().message(), HasSubstr("cannot be read"));
}

TEST(JoinTest, ATokenIsGoodOnce) {
  Joinable world;
  const auto token = world.token();
  auto node = world.node(token);
  ASSERT_TRUE(world.start(*node));
  const auto again = world.start(*world.node(token, "another"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::permission_denied);
  EXPECT_THAT(again.error().message(), HasSubstr("has been used"));
  world.wait(world.finished(*node));
}

TEST(JoinTest, AnExpiredTokenIsRefusedHere) {
  Joinable world;
  const auto token = make_join_token("a.test", world.directory, "edge", minutes(5), world.loop.wall_now() - hours(1));
  ASSERT_TRUE(token);
  EXPECT_THAT(world.start(*world.node(*token)).error().message(), HasSubstr("has expired"));
}

TEST(JoinTest, AnExpiredTokenIsRefusedThere) {
  Joinable world;
  const auto text = make_join_token("a.test", world.directory, "edge", minutes(5), world.loop.wall_now() - hours(1));
  ASSERT_TRUE(text);
  const auto token = parse_join_token(*text);
  EXPECT_FALSE((world.ask<proto::JoinResponse>(token->svid, "Join", Joinable::join_request())));
}

TEST(JoinTest, ATokenNobodyMadeIsRefused) {
  Joinable world;
  const auto id = *SpiffeId::parse("spiffe://join.a.test/edge");
  const auto forged = world.join_authority.ca().issue(id, minutes(5), world.loop.wall_now());
  const auto answer = world.ask<proto::JoinResponse>(*forged, "Join", Joinable::join_request());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), Code::permission_denied);
}

TEST(JoinTest, ABadRequestSpendsNoToken) {
  Joinable world;
  const auto text = world.token();
  const auto token = parse_join_token(text);
  proto::JoinRequest garbage;
  garbage.set_csr("garbage");
  EXPECT_EQ((world.ask<proto::JoinResponse>(token->svid, "Join", garbage).error().code()), Code::invalid_argument);
  EXPECT_TRUE((world.ask<proto::JoinResponse>(token->svid, "Join", Joinable::join_request())));
}

// Whoever answers at the CA's address without being it learns nothing, and the token stays good.
TEST(JoinTest, OnlyTheCaOfTheTokenIsJoined) {
  Joinable world;
  const auto text = world.token();
  const auto stranger = Ca::open("a.test", world.scratch.path() + "/other", hours(9), world.loop.wall_now());
  proto::JoinToken pinned;
  ASSERT_TRUE(pinned.ParseFromString(*base64url_decode(text)));
  pinned.set_roots(stranger->trust()->roots);
  const auto refused = world.start(*world.node(base64url_encode(pinned.SerializeAsString())));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::unavailable);
  auto node = world.node(text);
  EXPECT_TRUE(world.start(*node));
  EXPECT_TRUE(world.wait(node->issue(kWorkload)));
  world.wait(world.finished(*node));
}

TEST(JoinTest, NoNodeGetsAForbiddenId) {
  Joinable world;
  const auto node = world.svid("spiffe://a.test/patchbay/node/edge");
  const auto may = [&](const std::string& id) {
    return world.ask<proto::IssueResponse>(node, "Issue", Joinable::issue_request(id)).has_value();
  };
  EXPECT_TRUE(may("spiffe://a.test/any"));
  for (const auto* id :
       {"spiffe://a.test/patchbay/ca", "spiffe://a.test/patchbay/node/other", "spiffe://a.test/patchbay",
        "spiffe://a.test", "spiffe://b.test/any", "spiffe://join.a.test/any", "garbage", ""}) {
    EXPECT_FALSE(may(id)) << id;
    proto::SignJwtRequest request;
    request.set_spiffe_id(id);
    request.add_audience("x");
    EXPECT_FALSE((world.ask<proto::SignJwtResponse>(node, "SignJwt", request))) << id;
  }
  world.rules = *Rules::parse("nodes: [{node: edge, ids: ['spiffe://a.test/edge']}]", "test", testing::kPlace);
  EXPECT_TRUE(may("spiffe://a.test/edge/x"));
  EXPECT_FALSE(may("spiffe://a.test/any"));
  world.rules = *Rules::parse("nodes: [{node: edge, ids: []}]", "test", testing::kPlace);
  EXPECT_FALSE(may("spiffe://a.test/edge/x"));
  proto::RenewRequest renew;
  renew.set_csr(*new_csr(**new_key()));
  EXPECT_EQ((world.ask<proto::RenewResponse>(node, "Renew", renew).error().code()), Code::permission_denied);
}

TEST(JoinTest, GarbageIsNoCsr) {
  Joinable world;
  auto request = Joinable::issue_request("spiffe://a.test/any");
  request.set_csr(request.csr() + "x");
  const auto node = world.svid("spiffe://a.test/patchbay/node/edge");
  EXPECT_EQ((world.ask<proto::IssueResponse>(node, "Issue", request).error().code()), Code::invalid_argument);
}

TEST(JoinTest, StrangersDoNotGetPastTheHandshake) {
  Joinable world;
  const auto request = Joinable::issue_request("spiffe://a.test/any");
  const auto stranger = Ca::open("a.test", world.scratch.path() + "/other", hours(9), world.loop.wall_now());
  const auto node = *SpiffeId::parse("spiffe://a.test/patchbay/node/edge");
  const auto foreign = stranger->issue(node, hours(1), world.loop.wall_now());
  EXPECT_EQ((world.ask<proto::IssueResponse>(*foreign, "Issue", request).error().code()), Code::unavailable);
  EXPECT_EQ((world.ask<proto::IssueResponse>(world.svid("spiffe://a.test/workload"), "Issue", request).error().code()),
            Code::unavailable);
  const auto expired = world.svid(node.text(), world.loop.wall_now() - hours(2));
  EXPECT_EQ((world.ask<proto::IssueResponse>(expired, "Issue", request).error().code()), Code::unavailable);
}

TEST(JoinTest, TokensAndNodesAreForDifferentCalls) {
  Joinable world;
  const auto token = parse_join_token(world.token());
  const auto issued =
      world.ask<proto::IssueResponse>(token->svid, "Issue", Joinable::issue_request("spiffe://a.test/any"));
  ASSERT_FALSE(issued);
  EXPECT_EQ(issued.error().code(), Code::permission_denied);
  const auto joined = world.ask<proto::JoinResponse>(world.svid("spiffe://a.test/patchbay/node/edge"), "Join",
                                                     Joinable::join_request());
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().code(), Code::permission_denied);
}

TEST(JoinTest, ADamagedNodeFileIsRefused) {
  Joinable world;
  auto node = world.node(world.token());
  ASSERT_TRUE(world.start(*node));
  ASSERT_TRUE(world.wait(node->issue(kWorkload)));
  world.wait(world.finished(*node));
  const auto path = world.scratch.path() + "/node/node";
  std::filesystem::resize_file(path, 100);
  EXPECT_THAT(world.start(*world.node("")).error().message(), HasSubstr("cannot be used"));
}

TEST(JoinTokenTest, NamesAndLivesAreChecked) {
  Joinable world;
  const auto make = [&](const std::string& node, base::Duration lifetime) {
    return make_join_token("a.test", world.directory, node, lifetime, world.loop.wall_now()).has_value();
  };
  EXPECT_TRUE(make("edge-1.example_x", minutes(1)));
  EXPECT_FALSE(make("", minutes(1)));
  EXPECT_FALSE(make("a/b", minutes(1)));
  EXPECT_FALSE(make("..", minutes(1)));
  EXPECT_FALSE(make("a", seconds(0)));
  EXPECT_FALSE(make("a", hours(24 * 8)));
  EXPECT_FALSE(make_join_token("a.test", world.scratch.path() + "/none", "a", minutes(1), world.loop.wall_now()));
}

}  // namespace
}  // namespace identity
