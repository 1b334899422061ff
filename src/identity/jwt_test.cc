// SPDX-License-Identifier: Apache-2.0
#include "identity/jwt.h"

#include <gmock/gmock.h>
#include <openssl/rsa.h>

namespace identity {
namespace {

using base::Code;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kHeader = R"({"alg":"ES256","typ":"JWT"})";

KeyPtr p256() { return KeyPtr(EVP_EC_gen("P-256")); }

std::string token_of(std::string_view header, std::string_view claims, std::string_view signature = "sig") {
  return base64url_encode(header) + '.' + base64url_encode(claims) + '.' + base64url_encode(signature);
}

TEST(JwtTest, SaysWhatIsInIt) {
  const auto jwt = parse_jwt(token_of(kHeader, R"({"sub":"spiffe://a/b","aud":["x","y"],"exp":1700000000})"));
  ASSERT_TRUE(jwt);
  EXPECT_EQ(jwt->algorithm, "ES256");
  EXPECT_EQ(jwt->subject, "spiffe://a/b");
  EXPECT_TRUE(jwt->audience_is_list);
  EXPECT_THAT(jwt->audience, ElementsAre("x", "y"));
  EXPECT_EQ(jwt->expires, base::WallTime(std::chrono::seconds(1700000000)));
  EXPECT_EQ(jwt->signature, "sig");
}

TEST(JwtTest, ALoneAudienceIsKnownForWhatItIs) {
  const auto jwt = parse_jwt(token_of(kHeader, R"({"aud":"x"})"));
  ASSERT_TRUE(jwt);
  EXPECT_FALSE(jwt->audience_is_list);
  EXPECT_THAT(jwt->audience, ElementsAre("x"));
  EXPECT_EQ(jwt->expires, std::nullopt);
}

TEST(JwtTest, ListsOfAudiencesAreShort) {
  const auto with = [](std::size_t audiences) {
    std::string list = R"("x")";
    for (std::size_t i = 1; i < audiences; ++i) list += R"(,"x")";
    return parse_jwt(token_of(kHeader, R"({"aud":[)" + list + "]}"));
  };
  EXPECT_TRUE(with(kMaxAudiences));
  EXPECT_FALSE(with(kMaxAudiences + 1));
}

TEST(JwtTest, RefusesWhatIsNone) {
  for (const std::string& text :
       {std::string(), std::string("a.b"), std::string("a.b.c.d"), token_of("[]", "{}"), token_of(kHeader, "7"),
        token_of(kHeader, "{"), token_of(R"({"alg":"ES256","crit":["x"]})", "{}"), token_of(kHeader, R"({"exp":"1"})"),
        token_of(kHeader, R"({"exp":1e300})"), token_of(kHeader, R"({"nbf":"soon"})"),
        token_of(kHeader, R"({"aud":7})"), token_of(kHeader, R"({"aud":[7]})"), token_of(kHeader, "{}") + "=",
        std::string(kMaxJwt + 1, 'a')}) {
    const auto jwt = parse_jwt(text);
    ASSERT_FALSE(jwt) << text;
    EXPECT_EQ(jwt.error().code(), Code::invalid_argument);
  }
}

TEST(JwtTest, WhatAKeySignedItVerifies) {
  const auto key = p256();
  for (int i = 0; i < 20; ++i) {  // r or s begins with a zero byte now and then
    const auto token = sign_jwt(kHeader, R"({"sub":"spiffe://a/b"})", *key);
    ASSERT_TRUE(token);
    const auto jwt = parse_jwt(*token);
    ASSERT_TRUE(jwt);
    EXPECT_EQ(jwt->signature.size(), 64U);
    EXPECT_TRUE(verify_es256(*jwt, *key));
  }
}

TEST(JwtTest, AnyChangeIsNoticed) {
  const auto key = p256();
  const auto token = sign_jwt(kHeader, R"({"sub":"spiffe://a/b"})", *key);
  ASSERT_TRUE(token);
  const auto good = parse_jwt(*token);
  ASSERT_TRUE(good);
  Jwt other = *good;
  other.signed_part = base64url_encode(kHeader) + '.' + base64url_encode(R"({"sub":"spiffe://a/c"})");
  EXPECT_FALSE(verify_es256(other, *key));
  for (std::size_t i = 0; i < good->signature.size(); ++i) {
    Jwt changed = *good;
    changed.signature[i] = static_cast<char>(changed.signature[i] ^ 1);
    EXPECT_FALSE(verify_es256(changed, *key)) << i;
  }
  Jwt shorter = *good;
  shorter.signature.pop_back();
  EXPECT_FALSE(verify_es256(shorter, *key));
  Jwt zero = *good;
  zero.signature.assign(64, '\0');
  EXPECT_FALSE(verify_es256(zero, *key));
}

TEST(JwtTest, OtherKeysAndAlgorithmsDoNotVerify) {
  const auto key = p256();
  const auto token = sign_jwt(kHeader, "{}", *key);
  ASSERT_TRUE(token);
  const auto jwt = parse_jwt(*token);
  ASSERT_TRUE(jwt);
  EXPECT_FALSE(verify_es256(*jwt, *p256()));
  EXPECT_FALSE(verify_es256(*jwt, *KeyPtr(EVP_RSA_gen(2048))));
  EXPECT_FALSE(verify_es256(*jwt, *KeyPtr(EVP_EC_gen("P-384"))));
  Jwt none = *jwt;
  none.algorithm = "none";
  const auto refused = verify_es256(none, *key);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::permission_denied);
  EXPECT_THAT(refused.error().message(), HasSubstr("not ES256"));
}

}  // namespace
}  // namespace identity
