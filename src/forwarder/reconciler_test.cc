// SPDX-License-Identifier: Apache-2.0
#include "forwarder/reconciler.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "fakes/fake_plane.h"

namespace forwarder {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

class ReconcilerTest : public ::testing::Test {
 protected:
  ~ReconcilerTest() override {
    base::spawn_detached(reconciler.finish());
    bench.scheduler.run_ready();
  }
  void start() {
    base::spawn_detached(reconciler.start());
    bench.scheduler.run_ready();
  }

  fakes::ChainBench bench{std::make_shared<fakes::Below>()};
  fakes::FakePlane plane;
  Reconciler reconciler{bench.scheduler, plane, *bench.begin, 10min};
};

TEST_F(ReconcilerTest, AWireOfAnEarlierLifeIsKeptForTheGraceThenRemoved) {
  plane.leave("orphan");
  start();
  EXPECT_EQ(reconciler.orphans(), 1U);
  bench.scheduler.run_for(9min);
  EXPECT_THAT(plane.unplugs, IsEmpty());
  bench.scheduler.run_for(2min);
  EXPECT_THAT(plane.unplugs, ElementsAre("orphan"));
  EXPECT_EQ(reconciler.orphans(), 0U);
}

TEST_F(ReconcilerTest, AWireThatIsAskedForAgainIsAdopted) {
  plane.leave("c1");
  start();
  bench.scheduler.run_for(5min);
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  bench.scheduler.run_for(1h);
  EXPECT_THAT(plane.unplugs, IsEmpty());
  EXPECT_EQ(reconciler.orphans(), 0U);
}

TEST_F(ReconcilerTest, TheGraceBeginsWhenTheConnectionGoes) {
  plane.leave("c1");
  const auto connection = bench.request(bench.asking("c1"));
  start();
  bench.scheduler.run_for(30min);
  ASSERT_TRUE(bench.close(*connection));
  bench.scheduler.run_for(9min);
  EXPECT_THAT(plane.unplugs, IsEmpty());
  bench.scheduler.run_for(3min);
  EXPECT_THAT(plane.unplugs, ElementsAre("c1"));
}

TEST_F(ReconcilerTest, WhatCannotBeRemovedIsTriedAgain) {
  plane.leave("orphan");
  start();
  bench.scheduler.run_for(9min + 30s);
  plane.fail_next(base::Code::unavailable, "the kernel is busy");  // what exists cannot be read
  plane.fail_next(base::Code::unavailable, "the kernel is busy");
  bench.scheduler.run_for(3min);
  EXPECT_THAT(plane.leftovers, IsEmpty());
}

TEST_F(ReconcilerTest, AFailedLookIsAnError) {
  plane.fail_next(base::Code::permission_denied, "no netlink");
  const auto looked = bench.scheduler.run(reconciler.reconcile()).value();
  ASSERT_FALSE(looked);
  EXPECT_EQ(looked.error().code(), base::Code::permission_denied);
}

}  // namespace
}  // namespace forwarder
