// SPDX-License-Identifier: Apache-2.0
#include "identity/server/ca.h"

#include <gmock/gmock.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fakes/manual_scheduler.h"
#include "identity/jwt.h"
#include "identity/server/minting.h"
#include "identity/server/private_files.h"
#include "rpc/http2/test_world.h"

namespace identity {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using ::testing::HasSubstr;

constexpr base::WallTime kNow = fakes::ManualScheduler::kStart;
constexpr base::Duration kLife = hours(60);

mode_t mode_of(const std::string& path) {
  struct stat status = {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

std::string content_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class CaTest : public ::testing::Test {
 protected:
  base::Result<Ca> open(base::WallTime now = kNow, const std::string& domain = "a.test") {
    return Ca::open(domain, directory_, kLife, now);
  }
  void refuses(const std::string& why) {
    const auto ca = open();
    ASSERT_FALSE(ca);
    EXPECT_THAT(ca.error().message(), HasSubstr(why));
  }
  void replace(const std::string& content) { ASSERT_TRUE(write_private_file(file_, content)); }

  static Bundles bundles(const Ca& ca) {
    Bundles all;
    EXPECT_TRUE(all.set(ca.trust_domain(), ca.trust()->roots));
    return all;
  }

  rpc::testing::ScratchDirectory scratch_;
  const std::string directory_ = scratch_.path() + "/new/ca";
  const std::string file_ = directory_ + "/authority.pem";
  const SpiffeId id_ = *SpiffeId::parse("spiffe://a.test/client");
};

TEST_F(CaTest, MakesItsFilesPrivate) {
  ASSERT_TRUE(open());
  EXPECT_EQ(mode_of(directory_), 0700U);
  EXPECT_EQ(mode_of(file_), 0600U);
  EXPECT_FALSE(std::filesystem::exists(file_ + ".new"));
}

TEST_F(CaTest, IsTheSameAfterARestart) {
  const auto first = open();
  const auto second = open();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->trust()->roots, second->trust()->roots);
  EXPECT_EQ(jwks(*first->trust()), jwks(*second->trust()));
}

TEST_F(CaTest, IsOnlyReadWhereThereIsOne) {
  EXPECT_FALSE(Ca::read("a.test", directory_, kNow));
  ASSERT_TRUE(open());
  EXPECT_TRUE(Ca::read("a.test", directory_, kNow));
}

TEST_F(CaTest, AClockThatWasAheadWhenItBeganDoesNoHarmLater) {
  ASSERT_TRUE(open(kNow + 100 * kLife));
  const auto ca = open(kNow);  // the clock is right now
  ASSERT_TRUE(ca);
  const auto svid = ca->issue(*SpiffeId::parse("spiffe://a.test/x"), std::chrono::minutes(1), kNow);
  ASSERT_TRUE(svid) << svid.error().message();
  Bundles bundles;
  ASSERT_TRUE(bundles.set("a.test", ca->trust()->roots));
  EXPECT_TRUE(verify_chain(svid->chain, bundles, kNow));
}

TEST_F(CaTest, RefusesADirectoryOpenToOthers) {
  ASSERT_TRUE(open());
  ::chmod(directory_.c_str(), 0750);
  refuses("has mode 0750");
}

TEST_F(CaTest, RefusesAFileOpenToOthers) {
  ASSERT_TRUE(open());
  ::chmod(file_.c_str(), 0604);
  refuses("has mode 0604");
}

TEST_F(CaTest, RefusesAFileOfSomebodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  ASSERT_TRUE(open());
  ASSERT_EQ(::chown(file_.c_str(), 1234, 1234), 0);
  refuses("belongs to uid 1234");
}

TEST_F(CaTest, RefusesALink) {
  ASSERT_TRUE(open());
  std::filesystem::rename(file_, file_ + ".moved");
  std::filesystem::create_symlink(file_ + ".moved", file_);
  refuses("cannot open");
}

TEST_F(CaTest, RefusesGarbage) {
  ASSERT_TRUE(open());
  replace("garbage");
  refuses("the certificate of root 1 is damaged");
  replace("");
  refuses("it is empty");
}

TEST_F(CaTest, RefusesHalfAFile) {
  ASSERT_TRUE(open());
  const auto whole = content_of(file_);
  replace(whole.substr(0, whole.rfind("-----BEGIN")));
  refuses("a key of root 1 is damaged or missing");
}

TEST_F(CaTest, RefusesAnotherRootsKey) {
  ASSERT_TRUE(open());
  const auto own = content_of(file_);
  std::filesystem::remove(file_);
  ASSERT_TRUE(open());
  const auto other = content_of(file_);
  replace(own.substr(0, own.find("-----BEGIN PRIVATE")) + other.substr(other.find("-----BEGIN PRIVATE")));
  refuses("the key of root 1 is not its certificate's");
}

TEST_F(CaTest, RefusesAnotherTrustDomain) {
  ASSERT_TRUE(open(kNow, "b.test"));
  refuses("it is the CA of 'spiffe://b.test', not of trust domain a.test");
}

TEST_F(CaTest, LocksItsDirectory) {
  ASSERT_TRUE(open());
  const auto first = lock_directory(directory_);
  ASSERT_TRUE(first);
  EXPECT_FALSE(lock_directory(directory_));
}

TEST_F(CaTest, IssuesSvids) {
  const auto ca = open();
  const auto svid = ca->issue(id_, hours(1), kNow);
  ASSERT_TRUE(svid);
  EXPECT_EQ(verify_chain(svid->chain, bundles(*ca), kNow)->text(), id_.text());
  EXPECT_EQ(not_before(svid->leaf()), kNow - kBackdate);
  EXPECT_EQ(svid->expires(), kNow + hours(1));
  auto* const leaf = const_cast<X509*>(&svid->leaf());
  EXPECT_EQ(X509_get_key_usage(leaf), static_cast<std::uint32_t>(KU_DIGITAL_SIGNATURE));
  EXPECT_EQ(X509_get_extended_key_usage(leaf), static_cast<std::uint32_t>(XKU_SSL_CLIENT | XKU_SSL_SERVER));
  EXPECT_TRUE(parse_svid(id_.text(), to_der(svid->leaf()), *to_pkcs8(*svid->key)));
}

TEST_F(CaTest, RepeatsNeitherKeysNorSerialNumbers) {
  const auto ca = open();
  const auto one = ca->issue(id_, hours(1), kNow);
  const auto two = ca->issue(id_, hours(1), kNow);
  EXPECT_NE(key_id(*one->key), key_id(*two->key));
  EXPECT_NE(ASN1_INTEGER_cmp(X509_get0_serialNumber(&one->leaf()), X509_get0_serialNumber(&two->leaf())), 0);
}

TEST_F(CaTest, LetsNoSvidOutliveItsRoot) {
  const auto ca = open();
  EXPECT_EQ(ca->issue(id_, 2 * kLife, kNow)->expires(), kNow + kLife);
}

TEST_F(CaTest, PublishesTheNextRootBeforeItSigns) {
  auto ca = open();
  const auto early = ca->issue(id_, kLife, kNow);
  EXPECT_FALSE(*ca->rotate(kNow + kLife / 2 - minutes(1)));
  EXPECT_TRUE(*ca->rotate(kNow + kLife / 2));
  EXPECT_EQ(ca->roots(), 2U);

  const auto issuer_of = [&](base::WallTime now) {
    const auto svid = ca->issue(id_, hours(1), now);
    EXPECT_TRUE(verify_chain(svid->chain, bundles(*ca), now));
    return X509_NAME_hash_ex(X509_get_issuer_name(&svid->leaf()), nullptr, nullptr, nullptr);
  };
  const auto old = X509_NAME_hash_ex(X509_get_issuer_name(&early->leaf()), nullptr, nullptr, nullptr);
  EXPECT_EQ(issuer_of(kNow + kLife / 2), old);
  EXPECT_EQ(issuer_of(kNow + kLife / 3 * 2 - minutes(1)), old);
  EXPECT_NE(issuer_of(kNow + kLife / 3 * 2), old);

  EXPECT_TRUE(verify_chain(early->chain, bundles(*ca), kNow + kLife - minutes(1)));
  EXPECT_TRUE(*ca->rotate(kNow + kLife));
  EXPECT_FALSE(verify_chain(early->chain, bundles(*ca), kNow + kLife));
}

TEST_F(CaTest, KeepsBothRootsOverARestart) {
  const auto later = kNow + kLife / 2;
  auto ca = open();
  ASSERT_TRUE(*ca->rotate(later));
  const auto again = open(later);
  EXPECT_EQ(again->roots(), 2U);
  EXPECT_EQ(again->trust()->roots, ca->trust()->roots);
}

TEST_F(CaTest, BeginsAnewWhenItSleptTooLong) {
  const auto old = open()->trust()->roots;
  const auto ca = open(kNow + 2 * kLife);
  ASSERT_TRUE(ca);
  EXPECT_EQ(ca->roots(), 1U);
  EXPECT_NE(ca->trust()->roots, old);
}

TEST_F(CaTest, ForgetsARootItCannotWriteDown) {
  auto ca = open();
  std::filesystem::remove_all(directory_);
  EXPECT_FALSE(ca->rotate(kNow + kLife / 2));
  EXPECT_EQ(ca->roots(), 1U);
}

TEST_F(CaTest, SignsJwtSvids) {
  const auto ca = open();
  const auto token = ca->sign_jwt(id_, {"x", "y"}, kNow);
  ASSERT_TRUE(token);
  const auto jwt = parse_jwt(*token);
  ASSERT_TRUE(jwt);
  EXPECT_EQ(jwt->subject, id_.text());
  EXPECT_THAT(jwt->audience, ::testing::ElementsAre("x", "y"));
  EXPECT_EQ(jwt->expires, kNow + kJwtLifetime);
  ASSERT_EQ(ca->trust()->jwt_keys.size(), 1U);
  EXPECT_EQ(ca->trust()->jwt_keys[0].id, jwt->key_id);
  EXPECT_TRUE(verify_es256(*jwt, *ca->trust()->jwt_keys[0].key));
}

TEST_F(CaTest, PublishesItsJwtKeys) {
  auto ca = open();
  ASSERT_TRUE(*ca->rotate(kNow + kLife / 2));
  const auto document = nlohmann::json::parse(jwks(*ca->trust()));
  ASSERT_EQ(document["keys"].size(), 2U);
  for (const auto& key : document["keys"]) {
    EXPECT_EQ(key["use"], "jwt-svid");
    EXPECT_EQ(base64url_decode(key["x"].get<std::string>())->size(), 32U);
    EXPECT_EQ(base64url_decode(key["y"].get<std::string>())->size(), 32U);
  }
}

TEST_F(CaTest, RotatesByItself) {
  fakes::ManualScheduler scheduler;
  LocalAuthority authority(scheduler, *open(scheduler.wall_now()), hours(1));
  const auto before = authority.trust();
  const auto seen = authority.changed().count();
  scheduler.run_for(kLife / 2 + minutes(2));
  EXPECT_NE(authority.trust(), before);
  EXPECT_GT(authority.changed().count(), seen);
}

TEST(CsrTest, ProvesItsKey) {
  const auto key = new_key();
  const auto csr = new_csr(**key);
  const auto parsed = parse_csr(*csr);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(key_id(**parsed), key_id(**key));
}

TEST(CsrTest, RefusesGarbageTailsAndForgeries) {
  const auto key = new_key();
  auto csr = *new_csr(**key);
  EXPECT_FALSE(parse_csr(""));
  EXPECT_FALSE(parse_csr("garbage"));
  EXPECT_FALSE(parse_csr(csr + "x"));
  for (std::size_t i = 0; i < csr.size(); i += 7) {
    auto bad = csr;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(parse_csr(bad)) << i;
  }
}

TEST(CsrTest, RefusesOtherKeys) {
  const KeyPtr p384(EVP_EC_gen("P-384"));
  const KeyPtr rsa(EVP_RSA_gen(2048));
  EXPECT_THAT(parse_csr(*new_csr(*p384)).error().message(), HasSubstr("P-256"));
  EXPECT_THAT(parse_csr(*new_csr(*rsa)).error().message(), HasSubstr("P-256"));
}

}  // namespace
}  // namespace identity
