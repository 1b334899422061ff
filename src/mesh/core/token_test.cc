// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/token.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using base::WallTime;
using namespace std::chrono_literals;

constexpr WallTime kTime{1'795'253'290s};  // 2026-11-21T09:28:10Z

TEST(TokenTime, IsWrittenAsGoWritesIt) {
  EXPECT_EQ(format_time(kTime), "2026-11-21T09:28:10Z");
  EXPECT_EQ(format_time(kTime + 800'323'359ns), "2026-11-21T09:28:10.800323359Z");
  EXPECT_EQ(format_time(kTime + 47'471'880ns), "2026-11-21T09:28:10.04747188Z");  // no zeros at the end
}

TEST(TokenTime, SurvivesTheRoundTrip) {
  for (const base::Duration fraction : {0ns, 1ns, 999'999'999ns, 500'000'000ns, 10ns}) {
    const WallTime time = kTime + fraction;
    EXPECT_EQ(parse_time(format_time(time)), time) << fraction.count();
  }
}

TEST(TokenTime, MayHaveAnOffset) {
  EXPECT_EQ(parse_time("2026-11-21T11:28:10+02:00"), kTime);
  EXPECT_EQ(parse_time("2026-11-21T05:58:10.5-03:30"), kTime + 500ms);
  EXPECT_EQ(parse_time("2026-11-21t09:28:10z"), kTime);
}

TEST(TokenTime, DropsWhatIsFinerThanANanosecond) {
  EXPECT_EQ(parse_time("2026-11-21T09:28:10.1234567899Z"), kTime + 123'456'789ns);
}

TEST(TokenTime, RefusesWhatIsNoTime) {
  for (const char* text :
       {"", "Z", "2026-11-21", "2026-11-21T09:28:10", "2026-11-21T09:28:10.Z", "2026-11-21 09:28:10Z",
        "2026-02-30T09:28:10Z", "2026-11-21T24:00:00Z", "2026-11-21T09:60:10Z", "2026-11-21T09:28:61Z",
        "2026-11-21T09:28:10+2:00", "2026-11-21T09:28:10+24:00", "2026-11-21T09:28:10ZZ", "2026-11-21T09:28:-1Z",
        "0000-11-21T09:28:10Z", "9999-11-21T09:28:10Z", "2026-11-21T09:28:10.5", "2026x11-21T09:28:10Z"}) {
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
  }
}

class PlainTokensTest : public ::testing::Test {
 protected:
  fakes::ManualScheduler scheduler;
  PlainTokens tokens{scheduler, "spiffe://test.com/nsc", 10min};
};

TEST_F(PlainTokensTest, CarryNameAndExpiry) {
  const Token token = tokens.issue({});
  EXPECT_EQ(token_subject(token.text), "spiffe://test.com/nsc");
  EXPECT_EQ(token.expires, scheduler.wall_now() + 10min);
}

TEST_F(PlainTokensTest, ExpireLaterWhenIssuedLater) {
  const Token first = tokens.issue({});
  scheduler.run_for(1min);
  EXPECT_EQ(tokens.issue({}).expires - first.expires, 1min);
}

TEST_F(PlainTokensTest, HaveThreePartsAndNoSignature) {
  rpc::Peer nsmgr;
  nsmgr.id = "spiffe://test.com/nsmgr";
  const std::string text = tokens.issue(nsmgr).text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '.'), 2);
  EXPECT_EQ(text.back(), '.');
  EXPECT_EQ(text.find('='), std::string::npos);  // base64url has no padding
}

TEST(TokenSubject, IsEmptyForWhatIsNoToken) {
  for (const char* text : {"", ".", "..", "a.b", "a.!!!.c", "a.bm90IGpzb24.c", "a.eyJzdWIiOjF9.c", "a.W10.c"}) {
    EXPECT_EQ(token_subject(text), "") << text;
  }
}

TEST(TokenOf, NeedsBothKeysOnce) {
  const rpc::Metadata both{{"nsm-client-token", "t"}, {"nsm-client-token-expires", "2026-11-21T09:28:10Z"}};
  const auto token = token_of(both);
  ASSERT_TRUE(token);
  EXPECT_EQ(token->text, "t");
  EXPECT_EQ(token->expires, kTime);

  rpc::Metadata twice = both;
  twice.emplace("nsm-client-token", "u");
  EXPECT_FALSE(token_of(twice));
  EXPECT_FALSE(token_of({{"nsm-client-token", "t"}}));
  EXPECT_FALSE(token_of({{"nsm-client-token", "t"}, {"nsm-client-token-expires", "soon"}}));
  EXPECT_FALSE(token_of({}));
}

}  // namespace
}  // namespace mesh
