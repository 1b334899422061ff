// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/timeout/timeout.h"

#include <gmock/gmock.h>

#include "fakes/manual_scheduler.h"
#include "mesh/elements/begin/begin.h"

namespace mesh {
namespace {

using base::Result;
using base::Task;
using namespace std::chrono_literals;

class Counting final : public Element {
 public:
  Task<Result<Connection>> request(Call&, NetworkServiceRequest request) override {
    if (std::exchange(fails, false)) co_return base::fail(base::Code::unavailable, "no");
    co_return std::move(*request.mutable_connection());
  }
  Task<Result<void>> close(Call& call, Connection connection) override {
    ++closes;
    return call.next_close(std::move(connection));
  }
  int closes = 0;
  bool fails = false;
};

struct Top final : Element {
  using Gives = Types<Identified>;
};

class TimeoutTest : public ::testing::Test {
 protected:
  TimeoutTest() {
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>())
        .add("begin", begin)
        .add("timeout", std::make_shared<Timeout>())
        .add("below", below);
    chain.emplace(std::move(builder).build());
  }
  // A request whose caller's token lives that long from now.
  bool request(base::Duration lifetime, base::Duration allowance = 10s) {
    NetworkServiceRequest request;
    auto& connection = *request.mutable_connection();
    connection.set_id("c1");
    connection.mutable_path()->set_index(1);
    set_time(connection.mutable_path()->add_path_segments()->mutable_expires(), scheduler.wall_now() + lifetime);
    connection.mutable_path()->add_path_segments()->set_id("c1");
    CallContext context(scheduler, base::saturating_add(scheduler.now(), allowance), {});
    return scheduler.run(chain->request(context, std::move(request))).value().has_value();
  }

  fakes::ManualScheduler scheduler;
  std::shared_ptr<Begin> begin = std::make_shared<Begin>(Begin::Side::server, scheduler);
  std::shared_ptr<Counting> below = std::make_shared<Counting>();
  std::optional<Chain> chain;
};

TEST_F(TimeoutTest, ClosesWhenTheTokenExpiresLessTheTimeOfACall) {
  ASSERT_TRUE(request(60s));
  scheduler.run_for(49s);
  EXPECT_EQ(below->closes, 0);
  scheduler.run_for(2s);
  EXPECT_EQ(below->closes, 1);
  EXPECT_EQ(begin->size(), 0U);
}

TEST_F(TimeoutTest, ARefreshStartsTheTimeAnew) {
  ASSERT_TRUE(request(60s));
  scheduler.run_for(40s);
  ASSERT_TRUE(request(60s));
  scheduler.run_for(49s);
  EXPECT_EQ(below->closes, 0);
  scheduler.run_for(2s);
  EXPECT_EQ(below->closes, 1);
}

TEST_F(TimeoutTest, AFailedRefreshLeavesTheOldTime) {
  ASSERT_TRUE(request(60s));
  scheduler.run_for(40s);
  below->fails = true;
  ASSERT_FALSE(request(60s));
  scheduler.run_for(11s);
  EXPECT_EQ(below->closes, 1);
}

TEST_F(TimeoutTest, ATokenThatHasExpiredClosesAtOnce) {
  ASSERT_TRUE(request(-5s));
  scheduler.run_ready();
  EXPECT_EQ(below->closes, 1);
}

TEST_F(TimeoutTest, ATokenShorterThanACallClosesAtOnce) {
  ASSERT_TRUE(request(5s));
  scheduler.run_ready();
  EXPECT_EQ(below->closes, 1);
}

TEST_F(TimeoutTest, WithoutADeadlineTheTokensTimeCounts) {
  ASSERT_TRUE(request(60s, base::Duration::max()));
  scheduler.run_for(59s);
  EXPECT_EQ(below->closes, 0);
  scheduler.run_for(2s);
  EXPECT_EQ(below->closes, 1);
}

TEST_F(TimeoutTest, AClosedConnectionIsNotClosedAgain) {
  ASSERT_TRUE(request(60s));
  CallContext context(scheduler, base::kNoDeadline, {});
  ASSERT_TRUE(*scheduler.run(chain->close(context, begin->connections()[0])));
  scheduler.run_for(2min);
  EXPECT_EQ(below->closes, 1);
}

TEST_F(TimeoutTest, APreviousSegmentWithoutAnExpiryIsRefused) {
  NetworkServiceRequest request;
  request.mutable_connection()->set_id("c1");
  request.mutable_connection()->mutable_path()->set_index(1);
  request.mutable_connection()->mutable_path()->add_path_segments();
  request.mutable_connection()->mutable_path()->add_path_segments();
  CallContext context(scheduler, base::kNoDeadline, {});
  const auto refused = scheduler.run(chain->request(context, request)).value();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "expiration for the previous path segment cannot be nil");
}

}  // namespace
}  // namespace mesh
