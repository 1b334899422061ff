// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_expiry/registry_expiry.h"

#include <gmock/gmock.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr base::WallTime kStart = fakes::ManualScheduler::kStart;

class RegistryExpiryTest : public ::testing::Test {
 protected:
  RegistryExpiryTest() { link_registry<Endpoints>({&serialised, &expiry}, below); }
  ~RegistryExpiryTest() override { scheduler.run(finished(expiry)); }
  static base::Task<bool> finished(RegistryExpiry& expiry) {
    co_await expiry.finish();
    co_return true;
  }

  // A call whose token expires then.
  RegistryCall call(base::WallTime expires) {
    RegistryCall made(scheduler, scheduler.now() + 15s, base::StopToken());
    made.metadata.emplace("nsm-client-token", "x");
    made.metadata.emplace("nsm-client-token-expires", format_time(expires));
    return made;
  }
  base::Result<NetworkServiceEndpoint> enroll(base::WallTime token_expires, std::optional<base::WallTime> wanted = {}) {
    auto context = call(token_expires);
    NetworkServiceEndpoint endpoint;
    endpoint.set_name("nse");
    if (wanted) set_time(endpoint.mutable_expiration_time(), *wanted);
    return scheduler.run(serialised.enroll(context, endpoint), 0s).value();
  }
  static base::WallTime expiration(const base::Result<NetworkServiceEndpoint>& stored) {
    return to_wall(stored.value().expiration_time());
  }

  fakes::ManualScheduler scheduler;
  PlainTokens tokens{scheduler, "spiffe://test/registry", 10min};
  RegistrySerialised<Endpoints> serialised{scheduler};
  RegistryExpiry expiry{scheduler, tokens, serialised};
  fakes::FakeRegistry<Endpoints> below;
};

TEST_F(RegistryExpiryTest, AMinuteIsTheMost) { EXPECT_EQ(expiration(enroll(kStart + 1h)), kStart + 1min); }

TEST_F(RegistryExpiryTest, TheCallersTokenMayAllowLess) { EXPECT_EQ(expiration(enroll(kStart + 20s)), kStart + 20s); }

TEST_F(RegistryExpiryTest, SoMayOurOwn) {
  PlainTokens brief(scheduler, "spiffe://test/registry", 10s);
  RegistryExpiry element(scheduler, brief, serialised);
  element.set_next(below);
  auto context = call(kStart + 1h);
  NetworkServiceEndpoint endpoint;
  endpoint.set_name("nse");
  EXPECT_EQ(expiration(scheduler.run(element.enroll(context, endpoint), 0s).value()), kStart + 10s);
  scheduler.run(finished(element));
}

TEST_F(RegistryExpiryTest, AnEarlierTimeOfTheCallersStays) {
  EXPECT_EQ(expiration(enroll(kStart + 1h, kStart + 5s)), kStart + 5s);
  scheduler.run_for(6s);
  EXPECT_EQ(below.withdrawn.size(), 1U);
}

TEST_F(RegistryExpiryTest, ALaterOneDoesNot) { EXPECT_EQ(expiration(enroll(kStart + 1h, kStart + 1h)), kStart + 1min); }

TEST_F(RegistryExpiryTest, AnEarlierTimeFromBelowCounts) {
  below.on_enroll = [](RegistryCall&, NetworkServiceEndpoint& endpoint) {
    set_time(endpoint.mutable_expiration_time(), kStart + 7s);
  };
  EXPECT_EQ(expiration(enroll(kStart + 1h)), kStart + 7s);
  scheduler.run_for(8s);
  EXPECT_TRUE(below.records.empty());
}

TEST_F(RegistryExpiryTest, WhatIsNotRefreshedIsUnregisteredInTime) {
  ASSERT_TRUE(enroll(kStart + 1h));
  scheduler.run_for(59s);
  EXPECT_TRUE(below.withdrawn.empty());
  scheduler.run_for(2s);
  EXPECT_EQ(below.withdrawn.size(), 1U);
  EXPECT_TRUE(below.records.empty());
}

TEST_F(RegistryExpiryTest, ARefreshPutsItOffAndAFailedOneDoesNot) {
  ASSERT_TRUE(enroll(kStart + 1h));
  scheduler.run_for(40s);
  ASSERT_TRUE(enroll(kStart + 1h));
  scheduler.run_for(40s);
  EXPECT_TRUE(below.withdrawn.empty());
  below.fail_next(Code::unavailable, "gone");
  EXPECT_FALSE(enroll(kStart + 1h));
  scheduler.run_for(21s);
  EXPECT_EQ(below.withdrawn.size(), 1U);
}

TEST_F(RegistryExpiryTest, ARefreshUnderWayWhenTimeIsUpWins) {
  ASSERT_TRUE(enroll(kStart + 1h));
  scheduler.run_for(59s);
  below.before_answer = [this]() -> base::Task<void> { co_await base::sleep_for(scheduler, 3s, base::StopToken()); };
  auto context = call(kStart + 1h);
  NetworkServiceEndpoint endpoint;
  endpoint.set_name("nse");
  ASSERT_TRUE(scheduler.run(serialised.enroll(context, endpoint)).value());
  scheduler.run_for(10s);
  EXPECT_TRUE(below.withdrawn.empty());
  EXPECT_EQ(below.records.size(), 1U);
}

TEST_F(RegistryExpiryTest, UnregisteringEndsTheWait) {
  ASSERT_TRUE(enroll(kStart + 1h));
  auto context = call(kStart + 1h);
  NetworkServiceEndpoint endpoint;
  endpoint.set_name("nse");
  ASSERT_TRUE(scheduler.run(serialised.withdraw(context, endpoint), 0s).value());
  scheduler.run_for(2min);
  EXPECT_EQ(below.withdrawn.size(), 1U);
}

TEST_F(RegistryExpiryTest, AnExpiredTokenIsRefused) {
  const auto refused = enroll(kStart - 1s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::permission_denied);
  EXPECT_THAT(refused.error().message(), HasSubstr("NSM_MAX_TOKEN_LIFETIME"));
  EXPECT_TRUE(below.enrolled.empty());
}

TEST_F(RegistryExpiryTest, AStepOfTheWallClockExpiresNothing) {
  ASSERT_TRUE(enroll(kStart + 1h));
  scheduler.step_wall_clock(30min);
  scheduler.run_for(30s);
  EXPECT_TRUE(below.withdrawn.empty());
}

TEST_F(RegistryExpiryTest, TakesOnWhatTheRegistryBelowHolds) {
  NetworkServiceEndpoint dead;
  dead.set_name("dead");
  set_time(dead.mutable_expiration_time(), kStart - 5s);
  NetworkServiceEndpoint alive;
  alive.set_name("alive");
  set_time(alive.mutable_expiration_time(), kStart + 20s);
  NetworkServiceEndpoint undated;
  undated.set_name("undated");
  below.records = {{"dead", dead}, {"alive", alive}, {"undated", undated}};
  ASSERT_TRUE(scheduler.run(expiry.adopt(), 0s).value());
  scheduler.run_ready();
  EXPECT_FALSE(below.records.contains("dead"));
  EXPECT_EQ(below.records.size(), 2U);
  scheduler.run_for(21s);
  EXPECT_FALSE(below.records.contains("alive"));
  scheduler.run_for(40s);
  EXPECT_TRUE(below.records.empty());
}

}  // namespace
}  // namespace mesh
