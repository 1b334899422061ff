// SPDX-License-Identifier: Apache-2.0
#include "identity/token_verifier.h"

#include <gmock/gmock.h>

#include "fakes/manual_scheduler.h"
#include "identity/testing.h"

namespace identity {
namespace {

using base::Code;
using testing::Authority;
using namespace std::chrono_literals;

class TokenVerifierTest : public ::testing::Test {
 protected:
  std::string token(EVP_PKEY& key, base::Duration lifetime = 10min, const std::string& subject = "spiffe://a.test/x") {
    const auto expires = std::chrono::floor<std::chrono::seconds>(scheduler_.wall_now() + lifetime);
    return *sign_jwt(R"({"alg":"ES256","typ":"JWT"})",
                     fmt::format(R"({{"sub":"{}","exp":{}}})", subject, expires.time_since_epoch().count()), key);
  }

  fakes::ManualScheduler scheduler_;
  TokenVerifier verifier_{scheduler_};
  const Authority a_{"a.test"};
  const X509Svid svid_ = a_.issue("/x");
  const std::string certificate_ = to_der(svid_.leaf());
};

TEST_F(TokenVerifierTest, ASignatureIsLookedAtOnce) {
  const auto text = token(*svid_.key);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(verifier_.signed_by(text, certificate_));
  EXPECT_EQ(verifier_.verified(), 1U);
  EXPECT_EQ(verifier_.read(text).value()->subject, "spiffe://a.test/x");
}

TEST_F(TokenVerifierTest, WhatHeldForOneCertificateDoesNotHoldForAnother) {
  const auto text = token(*svid_.key);
  ASSERT_TRUE(verifier_.signed_by(text, certificate_));
  const auto refused = verifier_.signed_by(text, to_der(a_.issue("/x").leaf()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::permission_denied);
  EXPECT_TRUE(verifier_.signed_by(text, certificate_));
}

TEST_F(TokenVerifierTest, ARefusalIsNotForgottenIntoAPass) {
  const auto text = token(*svid_.key);
  const auto other = to_der(a_.issue("/y").leaf());
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(verifier_.signed_by(text, other));
  EXPECT_FALSE(verifier_.signed_by(text, ""));
  EXPECT_FALSE(verifier_.signed_by(text, "garbage"));
  EXPECT_FALSE(verifier_.signed_by("a.b.c", certificate_));
}

TEST_F(TokenVerifierTest, ExpiredTokensAreForgotten) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(verifier_.read(token(*svid_.key)));
  EXPECT_EQ(verifier_.kept(), 100U);
  scheduler_.run_for(11min);
  ASSERT_TRUE(verifier_.read(token(*svid_.key)));
  EXPECT_EQ(verifier_.kept(), 1U);
}

TEST_F(TokenVerifierTest, LargeTokensDoNotFillTheMemory) {
  const auto text = token(*svid_.key);
  const auto signature = text.substr(text.rfind('.'));
  const auto header = text.substr(0, text.find('.') + 1);
  const std::string padding(5000, 'x');
  for (std::size_t i = 0; i < 4000; ++i) {
    const auto claims = base64url_encode(fmt::format(R"({{"n":{},"p":"{}","exp":9000000000}})", i, padding));
    ASSERT_TRUE(verifier_.read(header + claims + signature));
  }
  EXPECT_LE(verifier_.kept() * padding.size(), TokenVerifier::kMaxBytes);
  EXPECT_GT(verifier_.kept(), 1000U);
}

TEST_F(TokenVerifierTest, WhatIsKeptIsBounded) {
  // Nobody's signature is needed to fill the memory of whoever only reads.
  const auto text = token(*svid_.key);
  const auto signature = text.substr(text.rfind('.'));
  const auto header = text.substr(0, text.find('.') + 1);
  for (std::size_t i = 0; i < TokenVerifier::kMaxKept + 100; ++i) {
    const auto claims = base64url_encode(fmt::format(R"({{"n":{},"exp":9000000000}})", i));
    ASSERT_TRUE(verifier_.read(header + claims + signature));
  }
  EXPECT_LE(verifier_.kept(), TokenVerifier::kMaxKept);
}

}  // namespace
}  // namespace identity
