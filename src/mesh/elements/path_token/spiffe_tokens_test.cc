// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/path_token/spiffe_tokens.h"

#include <gmock/gmock.h>

#include "fakes/manual_scheduler.h"
#include "identity/jwt.h"
#include "identity/testing.h"

namespace mesh {
namespace {

using identity::testing::Authority;
using ::testing::ElementsAre;
using namespace std::chrono_literals;

class SpiffeTokensTest : public ::testing::Test {
 protected:
  SpiffeTokensTest() : now_(scheduler_.wall_now()) {}

  std::shared_ptr<const identity::Identity> lasting(base::Duration lifetime) const {
    return a_.identity(a_.issue("/manager", {.not_before = now_ - 1h, .not_after = now_ + lifetime}));
  }
  static rpc::Peer peer(const std::string& id) {
    rpc::Peer made;
    made.id = id;
    return made;
  }
  static identity::Jwt read(const Token& token) { return identity::parse_jwt(token.text).value(); }

  fakes::ManualScheduler scheduler_;
  const base::WallTime now_;
  const Authority a_{"a.test"};
  identity::FixedSource source_{lasting(2h)};
  SpiffeTokens tokens_{scheduler_, source_, 10min};
};

TEST_F(SpiffeTokensTest, SayWhoForWhomAndHowLong) {
  const Token token = tokens_.issue(peer("spiffe://a.test/nsc"));
  const auto jwt = read(token);
  EXPECT_EQ(jwt.subject, "spiffe://a.test/manager");
  EXPECT_TRUE(jwt.audience_is_list);
  EXPECT_THAT(jwt.audience, ElementsAre("spiffe://a.test/nsc"));
  EXPECT_EQ(jwt.expires, std::chrono::floor<std::chrono::seconds>(now_ + 10min));
  EXPECT_EQ(token.expires, now_ + 10min);
  EXPECT_TRUE(identity::verify_es256(jwt, *source_.current()->svid.key));
}

TEST_F(SpiffeTokensTest, WithoutAPeerThereIsNoAudience) { EXPECT_TRUE(read(tokens_.issue({})).audience.empty()); }

TEST_F(SpiffeTokensTest, EndWithTheOwnCertificate) {
  source_.set(lasting(1min));
  const Token token = tokens_.issue(peer("spiffe://a.test/nsc"));
  const auto end = std::chrono::floor<std::chrono::seconds>(now_ + 1min);
  EXPECT_EQ(read(token).expires, end);
  EXPECT_EQ(token.expires, end);
}

TEST_F(SpiffeTokensTest, ThePeersCertificateLimitsTheExpiryButNotTheToken) {
  rpc::Peer nsc = peer("spiffe://a.test/nsc");
  nsc.expires = now_ + 1min;
  const Token token = tokens_.issue(nsc);
  EXPECT_EQ(token.expires, now_ + 1min);
  EXPECT_EQ(read(token).expires, std::chrono::floor<std::chrono::seconds>(now_ + 10min));
}

TEST_F(SpiffeTokensTest, AreSignedAnewOnlyWhenTheyWouldSayAnotherThing) {
  const auto first = tokens_.issue(peer("spiffe://a.test/nsc")).text;
  EXPECT_EQ(tokens_.issue(peer("spiffe://a.test/nsc")).text, first);
  EXPECT_NE(tokens_.issue(peer("spiffe://a.test/other")).text, first);
  scheduler_.run_for(1s);
  EXPECT_NE(tokens_.issue(peer("spiffe://a.test/nsc")).text, first);
}

TEST_F(SpiffeTokensTest, AreSignedWithTheKeyThatThePeerWasShown) {
  rpc::Peer nsc = peer("spiffe://a.test/nsc");
  nsc.ours = source_.current();
  const auto shown = source_.current();
  source_.set(lasting(2h));
  EXPECT_TRUE(identity::verify_es256(read(tokens_.issue(nsc)), *shown->svid.key));
  nsc.ours = nullptr;
  EXPECT_TRUE(identity::verify_es256(read(tokens_.issue(nsc)), *source_.current()->svid.key));
}

TEST_F(SpiffeTokensTest, ANegativeLifetimeMakesExpiredTokens) {
  SpiffeTokens expired(scheduler_, source_, -1min);
  EXPECT_LT(expired.issue({}).expires, now_);
}

TEST_F(SpiffeTokensTest, BeforeTheFirstSvidThereIsNone) {
  source_.set(nullptr);
  EXPECT_EQ(tokens_.issue({}).text, "");
}

}  // namespace
}  // namespace mesh
