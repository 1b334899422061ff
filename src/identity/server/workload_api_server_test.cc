// SPDX-License-Identifier: Apache-2.0
#include "identity/server/workload_api_server.h"

#include <gmock/gmock.h>

#include "identity/jwt.h"
#include "identity/server/minting.h"
#include "identity/server/testing.h"
#include "workload.pb.h"

namespace identity {
namespace {

using base::Code;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::rules_for_us;

constexpr const char* kFetchX509 = "/SpiffeWorkloadAPI/FetchX509SVID";
constexpr const char* kX509Bundles = "/SpiffeWorkloadAPI/FetchX509Bundles";
constexpr const char* kFetchJwt = "/SpiffeWorkloadAPI/FetchJWTSVID";
constexpr const char* kJwtBundles = "/SpiffeWorkloadAPI/FetchJWTBundles";
constexpr const char* kValidate = "/SpiffeWorkloadAPI/ValidateJWTSVID";

// Serves this very process.
struct Served : testing::World {
  explicit Served(base::Duration svid_lifetime = std::chrono::hours(1),
                  base::Duration root_lifetime = std::chrono::hours(9), Rules rules = rules_for_us())
      : World(svid_lifetime, root_lifetime), server(loop, authority, callers, std::move(rules)) {
    listener = *server_transport.listen(url, services);
    channel = *client_transport.channel(url);
  }
  ~Served() {
    auto finishing = rpc::testing::begin(finish());
    rpc::testing::wait(loop, finishing);
  }
  base::Task<bool> finish() {
    co_await listener->finish();
    co_return true;
  }

  rpc::CallOptions options() const {
    rpc::CallOptions call;
    call.deadline = loop.now() + seconds(15);
    call.metadata.emplace("workload.spiffe.io", "true");
    return call;
  }
  std::unique_ptr<rpc::ClientStream> open(const std::string& method) {
    return *wait(channel->stream(method, "", options()));
  }
  template <typename Message>
  base::Result<Message> next(rpc::ClientStream& stream) {
    auto bytes = wait(stream.read());
    if (!bytes) return std::unexpected(bytes.error());
    if (!*bytes) return base::fail(Code::unavailable, "the stream ended");
    return rpc::parse<Message>(**bytes, "test");
  }
  template <typename Message>
  base::Result<Message> first(const std::string& method) {
    return next<Message>(*open(method));
  }
  template <typename Response, typename Request>
  base::Result<Response> call(const std::string& method, const Request& request) {
    auto reply = wait(rpc::unary<Response>(channel, method, request, options()));
    if (!reply) return std::unexpected(reply.error());
    return reply->message;
  }
  Code code_of_stream(const std::string& method, const std::string& body, rpc::CallOptions call) {
    auto stream = wait(channel->stream(method, body, std::move(call)));
    if (!stream) return stream.error().code();
    const auto answer = wait((*stream)->read());
    return answer ? Code::ok : answer.error().code();
  }
  Code code_of_unary(const std::string& method, const std::string& body, rpc::CallOptions call) {
    const auto reply = wait(channel->unary(method, body, std::move(call)));
    return reply ? Code::ok : reply.error().code();
  }
  base::Result<std::string> jwt(const std::string& audience) {
    JWTSVIDRequest request;
    request.add_audience(audience);
    auto reply = call<JWTSVIDResponse>(kFetchJwt, request);
    if (!reply) return std::unexpected(reply.error());
    return reply->svids(0).svid();
  }
  base::Result<ValidateJWTSVIDResponse> validate(const std::string& token, const std::string& audience) {
    ValidateJWTSVIDRequest request;
    request.set_svid(token);
    request.set_audience(audience);
    return call<ValidateJWTSVIDResponse>(kValidate, request);
  }

  const std::string url = "unix://" + scratch.path() + "/socket";
  AttestingSecurity callers;
  rpc::http2::NoCredentials no_tokens;
  WorkloadApiServer server;
  const rpc::Services services = server.services();
  rpc::http2::Transport server_transport{loop, no_tokens, callers, WorkloadApiServer::limits()};
  rpc::http2::Transport client_transport{loop};
  std::unique_ptr<rpc::Listener> listener;
  std::shared_ptr<rpc::Channel> channel;
};

void expect_valid(const X509SVIDResponse& response, base::WallTime now) {
  for (const auto& one : response.svids()) {
    const auto svid = parse_svid(one.spiffe_id(), one.x509_svid(), one.x509_svid_key());
    ASSERT_TRUE(svid) << svid.error().message();
    Bundles bundles;
    ASSERT_TRUE(bundles.set("a.test", one.bundle()));
    EXPECT_TRUE(verify_chain(svid->chain, bundles, now));
  }
}

TEST(WorkloadApiServerTest, HandsOutAllThatTheCallerIs) {
  Served world;
  const auto response = world.first<X509SVIDResponse>(kFetchX509);
  ASSERT_TRUE(response) << response.error().message();
  ASSERT_EQ(response->svids_size(), 2);
  EXPECT_EQ(response->svids(0).spiffe_id(), "spiffe://a.test/first");
  EXPECT_EQ(response->svids(1).spiffe_id(), "spiffe://a.test/second");
  expect_valid(*response, world.loop.wall_now());
}

TEST(WorkloadApiServerTest, RenewsAtHalfOfTheLife) {
  Served world(seconds(4));
  const auto stream = world.open(kFetchX509);
  const auto first = world.next<X509SVIDResponse>(*stream);
  const auto began = world.loop.now();
  const auto second = world.next<X509SVIDResponse>(*stream);
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->svids(0).x509_svid(), second->svids(0).x509_svid());
  EXPECT_NE(first->svids(0).x509_svid_key(), second->svids(0).x509_svid_key());
  EXPECT_GE(world.loop.now() - began, milliseconds(800));  // certificates count whole seconds
  EXPECT_LT(world.loop.now() - began, milliseconds(3500));
  expect_valid(*first, world.loop.wall_now());  // the old one is still good
  expect_valid(*second, world.loop.wall_now());
}

TEST(WorkloadApiServerTest, TellsOfNewRoots) {
  Served world(seconds(60), seconds(6));
  const auto x509 = world.open(kX509Bundles);
  const auto jwt = world.open(kJwtBundles);
  const std::string domain = "spiffe://a.test";
  const auto before = world.next<X509BundlesResponse>(*x509)->bundles().at(domain);
  const auto keys_before = world.next<JWTBundlesResponse>(*jwt)->bundles().at(domain);
  const auto after = world.next<X509BundlesResponse>(*x509)->bundles().at(domain);
  const auto keys_after = world.next<JWTBundlesResponse>(*jwt)->bundles().at(domain);
  EXPECT_EQ(parse_certificates(before)->size(), 1U);
  EXPECT_EQ(parse_certificates(after)->size(), 2U);
  EXPECT_TRUE(after.starts_with(before));
  EXPECT_NE(keys_before, keys_after);
}

TEST(WorkloadApiServerTest, NewRulesReachOpenStreams) {
  Served world;
  const auto stream = world.open(kFetchX509);
  ASSERT_TRUE(world.next<X509SVIDResponse>(*stream));
  world.server.set_rules(rules_for_us("spiffe://a.test/third"));
  const auto changed = world.next<X509SVIDResponse>(*stream);
  ASSERT_TRUE(changed);
  ASSERT_EQ(changed->svids_size(), 1);
  EXPECT_EQ(changed->svids(0).spiffe_id(), "spiffe://a.test/third");
  world.server.set_rules(*Rules::parse("workloads: []", "test", testing::kPlace));
  const auto denied = world.next<X509SVIDResponse>(*stream);
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().code(), Code::permission_denied);
}

TEST(WorkloadApiServerTest, DeniesStrangersEverything) {
  Served world(std::chrono::hours(1), std::chrono::hours(9), *Rules::parse("workloads: []", "test", testing::kPlace));
  for (const auto* method : {kFetchX509, kX509Bundles, kJwtBundles}) {
    EXPECT_EQ(world.code_of_stream(method, "", world.options()), Code::permission_denied) << method;
  }
  EXPECT_EQ(world.jwt("x").error().code(), Code::permission_denied);
  EXPECT_EQ(world.validate("x", "x").error().code(), Code::permission_denied);
}

TEST(WorkloadApiServerTest, RefusesCallsWithoutItsMetadata) {
  Served world;
  rpc::CallOptions wrong = world.options();
  wrong.metadata.clear();
  wrong.metadata.emplace("workload.spiffe.io", "yes");
  rpc::CallOptions none = wrong;
  none.metadata.clear();
  for (const auto* method : {kFetchX509, kX509Bundles, kJwtBundles}) {
    EXPECT_EQ(world.code_of_stream(method, "", none), Code::invalid_argument) << method;
    EXPECT_EQ(world.code_of_stream(method, "", wrong), Code::invalid_argument) << method;
  }
  for (const auto* method : {kFetchJwt, kValidate}) {
    EXPECT_EQ(world.code_of_unary(method, "", none), Code::invalid_argument) << method;
  }
}

TEST(WorkloadApiServerTest, RefusesGarbage) {
  Served world;
  const std::string garbage = "\xff\xff\xff";
  for (const auto* method : {kFetchX509, kX509Bundles, kJwtBundles}) {
    EXPECT_EQ(world.code_of_stream(method, garbage, world.options()), Code::invalid_argument) << method;
  }
  for (const auto* method : {kFetchJwt, kValidate}) {
    EXPECT_EQ(world.code_of_unary(method, garbage, world.options()), Code::invalid_argument) << method;
    EXPECT_EQ(world.code_of_unary(method, "", world.options()), Code::invalid_argument) << method;
  }
  EXPECT_EQ(world.code_of_unary("/SpiffeWorkloadAPI/Nonsense", "", world.options()), Code::unimplemented);
}

TEST(WorkloadApiServerTest, ItsJwtSvidsAreValid) {
  Served world;
  const auto token = world.jwt("me");
  ASSERT_TRUE(token) << token.error().message();
  const auto valid = world.validate(*token, "me");
  ASSERT_TRUE(valid) << valid.error().message();
  EXPECT_EQ(valid->spiffe_id(), "spiffe://a.test/first");
  EXPECT_EQ(valid->claims().fields().at("sub").string_value(), "spiffe://a.test/first");
}

TEST(WorkloadApiServerTest, AJwtSvidIsTheCallersOnly) {
  Served world;
  JWTSVIDRequest request;
  request.add_audience("x");
  request.set_spiffe_id("spiffe://a.test/second");
  const auto own = world.call<JWTSVIDResponse>(kFetchJwt, request);
  ASSERT_TRUE(own);
  EXPECT_EQ(own->svids_size(), 1);
  request.set_spiffe_id("spiffe://a.test/other");
  EXPECT_EQ(world.call<JWTSVIDResponse>(kFetchJwt, request).error().code(), Code::permission_denied);
}

TEST(WorkloadApiServerTest, ValidatesNoOtherTokens) {
  Served world;
  const auto now = world.loop.wall_now();
  const auto id = *SpiffeId::parse("spiffe://a.test/first");
  const auto& ca = world.authority.ca();
  const auto refused = [&](const std::string& token) {
    const auto answer = world.validate(token, "me");
    return !answer && answer.error().code() == Code::invalid_argument;
  };
  EXPECT_FALSE(refused(*ca.sign_jwt(id, {"me"}, now)));
  EXPECT_TRUE(refused(*ca.sign_jwt(id, {"you"}, now)));
  EXPECT_TRUE(refused(*ca.sign_jwt(id, {}, now)));
  EXPECT_TRUE(refused(*ca.sign_jwt(id, {"me"}, now - kJwtLifetime - seconds(1))));
  EXPECT_TRUE(refused(*ca.sign_jwt(*SpiffeId::parse("spiffe://b.test/first"), {"me"}, now)));
  const auto stranger = Ca::open("a.test", world.scratch.path() + "/other", std::chrono::hours(1), now);
  EXPECT_TRUE(refused(*stranger->sign_jwt(id, {"me"}, now)));
  const auto key = new_key();
  const auto known_id = fmt::format(R"({{"alg":"ES256","kid":"{}"}})", ca.trust()->jwt_keys[0].id);
  const std::string claims = R"({"sub":"spiffe://a.test/first","aud":["me"],"exp":4000000000})";
  EXPECT_TRUE(refused(*sign_jwt(known_id, claims, **key)));
  EXPECT_TRUE(refused("eyJhbGciOiJub25lIn0." + base64url_encode(claims) + "."));
  EXPECT_TRUE(refused("garbage"));
}

}  // namespace
}  // namespace identity
