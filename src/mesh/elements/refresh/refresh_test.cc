// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/refresh/refresh.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using namespace std::chrono_literals;
using ::testing::SizeIs;

constexpr base::WallTime kNow = fakes::ManualScheduler::kStart;

Path path_of(std::uint32_t index, const std::vector<base::Duration>& lifetimes) {
  Path path;
  path.set_index(index);
  for (const auto lifetime : lifetimes) set_time(path.add_path_segments()->mutable_expires(), kNow + lifetime);
  return path;
}

TEST(RefreshDelay, IsAFifthOfTheShortestLifeForTheFirstOfSeveral) {
  EXPECT_EQ(refresh_delay(path_of(0, {600s, 900s, 300s, 600s}), kNow), 60s);
}

TEST(RefreshDelay, GrowsWithTheIndex) {
  EXPECT_EQ(refresh_delay(path_of(2, {600s, 600s, 600s, 600s}), kNow), 180s);  // 0.2 + 0.2 * 2 / 4
}

TEST(RefreshDelay, IsAThirdForAPathOfOne) { EXPECT_EQ(refresh_delay(path_of(0, {600s}), kNow), 200s); }

TEST(RefreshDelay, IsNextToNothingWhenATokenHasExpired) {
  EXPECT_EQ(refresh_delay(path_of(0, {600s, 0s}), kNow), 1ns);
  EXPECT_EQ(refresh_delay(path_of(0, {600s, -3s}), kNow), 1ns);
}

TEST(RefreshDelay, LooksAtSegmentsThatHaveAnExpiry) {
  Path path = path_of(0, {600s, 600s});
  path.add_path_segments();
  EXPECT_EQ(refresh_delay(path, kNow), 120s);
}

class RefreshTest : public ::testing::Test {
 protected:
  RefreshTest() {
    bench.below->on_request = [this](Call&, NetworkServiceRequest& request) {
      auto& path = *request.mutable_connection()->mutable_path();
      path.clear_path_segments();
      for (int i = 0; i < 2; ++i)
        set_time(path.add_path_segments()->mutable_expires(), bench.scheduler.wall_now() + 600s);
    };
  }
  ~RefreshTest() override {
    base::spawn_detached(refresh->finish());
    bench.scheduler.run_ready();
  }

  // Made with the bench's own clock.
  struct Late final : Element {
    using Needs = Types<Serialised>;
    std::shared_ptr<Refresh> inner;
    base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
      return inner->request(call, std::move(request));
    }
    base::Task<base::Result<void>> close(Call& call, Connection connection) override {
      return inner->close(call, std::move(connection));
    }
  };
  std::shared_ptr<Late> late = std::make_shared<Late>();
  fakes::ChainBench bench{Begin::Side::client, late};
  std::shared_ptr<Refresh> refresh = late->inner = std::make_shared<Refresh>(bench.scheduler);
};

TEST_F(RefreshTest, AsksAgainAfterTheDelayAndThenAgain) {
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  bench.scheduler.run_for(119s);
  EXPECT_THAT(bench.below->requests, SizeIs(1));
  bench.scheduler.run_for(2s);
  EXPECT_THAT(bench.below->requests, SizeIs(2));
  bench.scheduler.run_for(120s);
  EXPECT_THAT(bench.below->requests, SizeIs(3));
}

TEST_F(RefreshTest, AFailureIsTriedAgainEvery200Milliseconds) {
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  for (int i = 0; i < 3; ++i) bench.below->fail_next(base::Code::unavailable, "no");
  bench.scheduler.run_for(120s + 500ms);
  EXPECT_THAT(bench.below->requests, SizeIs(4));
  bench.scheduler.run_for(200ms);
  EXPECT_THAT(bench.below->requests, SizeIs(5));
  bench.scheduler.run_for(100s);
  EXPECT_THAT(bench.below->requests, SizeIs(5));
}

TEST_F(RefreshTest, AFailedFirstRequestIsNotRefreshed) {
  bench.below->fail_next(base::Code::unavailable, "no");
  EXPECT_FALSE(bench.request(bench.asking("c1")));
  bench.scheduler.run_for(10min);
  EXPECT_THAT(bench.below->requests, SizeIs(1));
}

TEST_F(RefreshTest, CloseEndsIt) {
  const auto connection = bench.request(bench.asking("c1"));
  ASSERT_TRUE(bench.close(*connection));
  bench.scheduler.run_for(10min);
  EXPECT_THAT(bench.below->requests, SizeIs(1));
}

TEST_F(RefreshTest, ARepeatedRequestStartsTheDelayAnew) {
  const auto connection = bench.request(bench.asking("c1"));
  bench.scheduler.run_for(100s);
  ASSERT_TRUE(bench.request(bench.refreshing(*connection)));
  bench.scheduler.run_for(100s);
  EXPECT_THAT(bench.below->requests, SizeIs(2));
  bench.scheduler.run_for(21s);
  EXPECT_THAT(bench.below->requests, SizeIs(3));
}

}  // namespace
}  // namespace mesh
