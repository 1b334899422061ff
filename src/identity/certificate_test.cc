// SPDX-License-Identifier: Apache-2.0
#include "identity/certificate.h"

#include <gmock/gmock.h>

#include "identity/testing.h"

namespace identity {
namespace {

using base::Code;
using testing::Authority;
using testing::from_now;
using ::testing::HasSubstr;
using testing::KeyKind;
using testing::Leaf;
using namespace std::chrono_literals;

class CertificateTest : public ::testing::Test {
 protected:
  CertificateTest() { EXPECT_TRUE(bundles_.set("a.test", a_.bundle())); }

  base::Result<SpiffeId> verify(const X509Svid& svid) const { return verify_chain(svid.chain, bundles_, from_now(0s)); }
  void expect_refused(const X509Svid& svid, const std::string& why) const {
    const auto id = verify(svid);
    ASSERT_FALSE(id);
    EXPECT_EQ(id.error().code(), Code::permission_denied);
    EXPECT_THAT(id.error().message(), HasSubstr(why));
  }
  static base::Result<X509Svid> delivered(const X509Svid& svid) {
    return parse_svid(svid.id.text(), testing::chain_der(svid), testing::key_pkcs8(svid));
  }

  const Authority a_{"a.test"};
  const Authority b_{"b.test"};
  Bundles bundles_;
};

TEST_F(CertificateTest, AChainOfItsDomainsBundleIsWhoItSays) {
  const auto id = verify(a_.issue("/client"));
  ASSERT_TRUE(id) << id.error().message();
  EXPECT_EQ(id->text(), "spiffe://a.test/client");
}

TEST_F(CertificateTest, IntermediatesBelongToTheChain) {
  const Authority intermediate = a_.intermediate();
  EXPECT_TRUE(verify(intermediate.issue("/client")));
  X509Svid alone = intermediate.issue("/client");
  alone.chain.pop_back();
  expect_refused(alone, "issuer certificate");
}

TEST_F(CertificateTest, AnotherDomainsAuthorityHasNoSayInThisOne) {
  expect_refused(b_.issue("/client"), "nothing is known of trust domain 'b.test'");
  ASSERT_TRUE(bundles_.set("b.test", b_.bundle()));
  EXPECT_TRUE(verify(b_.issue("/client")));
  expect_refused(b_.posing_as("a.test").issue("/client"), "spiffe://a.test/client");
}

TEST_F(CertificateTest, ALeafIsASvidOrRefused) {
  expect_refused(a_.issue("/x", {.not_after = from_now(-1s)}), "expired");
  expect_refused(a_.issue("/x", {.not_before = from_now(10s)}), "not yet valid");
  expect_refused(a_.self_signed("/x"), "self");
  expect_refused(a_.issue("/x", {.uris = {{}}}), "no URI name");
  expect_refused(a_.issue("/x", {.uris = {{"spiffe://a.test/x", "spiffe://a.test/y"}}}), "more than one URI name");
  expect_refused(a_.issue("/x", {.uris = {{"https://a.test/x"}}}), "not a SPIFFE ID");
  expect_refused(a_.issue("/x", {.ca = true}), "a CA's");
  expect_refused(a_.issue("/x", {.key_usage = "digitalSignature,keyCertSign"}), "may sign certificates");
  expect_refused(a_.issue("/x", {.key_usage = "digitalSignature,cRLSign"}), "may sign certificates or CRLs");
  expect_refused(a_.issue("/x", {.key_usage = "keyEncipherment"}), "may not sign");
  EXPECT_TRUE(verify(a_.issue("/x", {.key_usage = "", .extended_key_usage = ""})));
  expect_refused(X509Svid{*SpiffeId::parse("spiffe://a.test/x"), {}, nullptr, ""}, "no certificate");
}

TEST_F(CertificateTest, TheTimeIsTheOneGiven) {
  const X509Svid svid = a_.issue("/x");
  EXPECT_FALSE(verify_chain(svid.chain, bundles_, from_now(2h)));
  EXPECT_FALSE(verify_chain(svid.chain, bundles_, from_now(-2h)));
  EXPECT_TRUE(verify_chain(svid.chain, bundles_, from_now(59min)));
}

TEST_F(CertificateTest, ASvidIsReadAsItIsDelivered) {
  const auto svid = delivered(a_.intermediate().issue("/client"));
  ASSERT_TRUE(svid) << svid.error().message();
  EXPECT_EQ(svid->id.text(), "spiffe://a.test/client");
  EXPECT_EQ(svid->chain.size(), 2U);
  EXPECT_EQ(svid->expires(), not_after(svid->leaf()));
}

TEST_F(CertificateTest, ABadDeliveryIsRefused) {
  const X509Svid good = a_.issue("/client");
  const auto chain = testing::chain_der(good);
  const auto key = testing::key_pkcs8(good);
  const auto why = [](const base::Result<X509Svid>& svid) { return svid ? "" : svid.error().message(); };
  EXPECT_THAT(why(parse_svid("spiffe://a.test/other", chain, key)), HasSubstr("is spiffe://a.test/client's"));
  EXPECT_THAT(why(parse_svid("nobody", chain, key)), HasSubstr("not a SPIFFE ID"));
  EXPECT_THAT(why(parse_svid(good.id.text(), "", key)), HasSubstr("no certificate"));
  EXPECT_THAT(why(parse_svid(good.id.text(), chain.substr(0, chain.size() - 1), key)), HasSubstr("not X.509"));
  EXPECT_THAT(why(parse_svid(good.id.text(), chain, "garbage")), HasSubstr("not PKCS#8"));
  EXPECT_THAT(why(parse_svid(good.id.text(), chain, testing::key_pkcs8(a_.issue("/client")))),
              HasSubstr("not the certificate's"));
  EXPECT_THAT(why(delivered(a_.issue("/client", {.key = KeyKind::rsa2048}))), HasSubstr("ec-p256"));
  EXPECT_THAT(why(delivered(a_.issue("/client", {.key = KeyKind::p384}))), HasSubstr("P-256"));
}

TEST_F(CertificateTest, ABundleIsReplacedWholeOrNotAtAll) {
  EXPECT_FALSE(bundles_.set("a.test", "garbage"));
  EXPECT_TRUE(verify(a_.issue("/x")));
  EXPECT_FALSE(bundles_.set("A.TEST", a_.bundle()));
  ASSERT_TRUE(bundles_.set("a.test", b_.bundle()));
  EXPECT_FALSE(verify(a_.issue("/x")));
}

}  // namespace
}  // namespace identity
