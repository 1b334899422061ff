// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/idle/idle.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using namespace std::chrono_literals;
using fakes::ChainBench;
using ::testing::HasSubstr;

// Time is the element's own scheduler; the bench drives calls only.
struct IdleTest : ::testing::Test {
  void start(base::Duration timeout) {
    idle = std::make_shared<Idle>(scheduler, timeout, [this] { ++expired; });
    bench = std::make_unique<ChainBench>(idle);
  }
  fakes::ManualScheduler scheduler;
  std::shared_ptr<Idle> idle;
  std::unique_ptr<ChainBench> bench;
  int expired = 0;
};

TEST_F(IdleTest, ExpiresFromTheStart) {
  start(15s);
  scheduler.run_for(14s);
  EXPECT_EQ(expired, 0);
  scheduler.run_for(2s);
  EXPECT_EQ(expired, 1);
  scheduler.run_for(60s);
  EXPECT_EQ(expired, 1);
}

TEST_F(IdleTest, RefusesRequestsOnceExpired) {
  start(15s);
  scheduler.run_for(16s);
  const auto refused = bench->request(bench->asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("endpoint expired: it had no connection for 15s"));
}

TEST_F(IdleTest, ConnectionsKeepItAliveUntilTheLastIsClosed) {
  start(15s);
  const auto first = bench->request(bench->asking("c1"));
  const auto second = bench->request(bench->asking("c2"));
  scheduler.run_for(60s);
  ASSERT_TRUE(bench->close(*first));
  scheduler.run_for(60s);
  EXPECT_EQ(expired, 0);
  ASSERT_TRUE(bench->close(*second));
  scheduler.run_for(14s);
  EXPECT_EQ(expired, 0);
  scheduler.run_for(1s);
  EXPECT_EQ(expired, 1);
}

TEST_F(IdleTest, RefreshCountsOnce) {
  start(15s);
  const auto first = bench->request(bench->asking("c1"));
  ASSERT_TRUE(bench->request(bench->refreshing(*first)));
  ASSERT_TRUE(bench->close(*first));
  scheduler.run_for(15s);
  EXPECT_EQ(expired, 1);
}

TEST_F(IdleTest, FailedRequestStartsTheWaitAnew) {
  start(15s);
  scheduler.run_for(10s);
  bench->below->fail_next(base::Code::unavailable, "no");
  ASSERT_FALSE(bench->request(bench->asking("c1")));
  scheduler.run_for(14s);
  EXPECT_EQ(expired, 0);
  scheduler.run_for(1s);
  EXPECT_EQ(expired, 1);
}

TEST_F(IdleTest, NoTimeoutNeverExpires) {
  start(0s);
  scheduler.run_for(24h);
  EXPECT_EQ(expired, 0);
  EXPECT_EQ(scheduler.pending_timers(), 0U);
}

TEST_F(IdleTest, ConnectionMayOutliveTheElement) {
  start(15s);
  std::shared_ptr<ConnectionState> state;
  bench->below->on_request = [&](Call& call, NetworkServiceRequest&) { state = call.context().state; };
  ASSERT_TRUE(bench->request(bench->asking("c1")));
  bench = nullptr;
  idle = nullptr;
  state = nullptr;
  EXPECT_EQ(scheduler.pending_timers(), 0U);
}

}  // namespace
}  // namespace mesh
