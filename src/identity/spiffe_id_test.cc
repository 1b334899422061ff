// SPDX-License-Identifier: Apache-2.0
#include "identity/spiffe_id.h"

#include <gmock/gmock.h>

namespace identity {
namespace {

using ::testing::HasSubstr;

TEST(SpiffeIdTest, HasATrustDomainAndAPath) {
  const auto id = SpiffeId::parse("spiffe://k8s.nsm/ns/default/pod/nsc-0");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->trust_domain(), "k8s.nsm");
  EXPECT_EQ(id->path(), "/ns/default/pod/nsc-0");
  EXPECT_EQ(id->text(), "spiffe://k8s.nsm/ns/default/pod/nsc-0");
}

TEST(SpiffeIdTest, ATrustDomainAloneIsAnId) {
  const auto id = SpiffeId::parse("spiffe://k8s.nsm");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->trust_domain(), "k8s.nsm");
  EXPECT_EQ(id->path(), "");
}

TEST(SpiffeIdTest, RefusesWhatTheStandardDoes) {
  for (const std::string text :
       {"", "spiffe://", "http://a/b", "SPIFFE://a/b", "spiffe:///b", "spiffe://A/b", "spiffe://a b/c",
        "spiffe://a:80/b", "spiffe://u@a/b", "spiffe://a/", "spiffe://a//b", "spiffe://a/b/", "spiffe://a/./b",
        "spiffe://a/../b", "spiffe://a/b?c", "spiffe://a/b#c", "spiffe://a/%41", "spiffe://a/\xc3\xa4"}) {
    EXPECT_FALSE(SpiffeId::parse(text)) << text;
  }
}

TEST(SpiffeIdTest, LimitsLengths) {
  EXPECT_TRUE(SpiffeId::parse("spiffe://" + std::string(255, 'a') + "/b"));
  EXPECT_FALSE(SpiffeId::parse("spiffe://" + std::string(256, 'a') + "/b"));
  const std::string start = "spiffe://a/";
  EXPECT_TRUE(SpiffeId::parse(start + std::string(2048 - start.size(), 'b')));
  EXPECT_FALSE(SpiffeId::parse(start + std::string(2049 - start.size(), 'b')));
}

TEST(SpiffeIdTest, AnErrorNamesTheValueAndTheRuleAndHidesWhatCannotBePrinted) {
  const auto id = SpiffeId::parse("spiffe://a/b\n/c");
  ASSERT_FALSE(id);
  EXPECT_THAT(id.error().message(), HasSubstr("'b?'"));
  EXPECT_THAT(id.error().message(), HasSubstr("letters, digits"));
}

}  // namespace
}  // namespace identity
