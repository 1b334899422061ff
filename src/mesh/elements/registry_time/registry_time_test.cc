// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_time/registry_time.h"

#include <gtest/gtest.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using namespace std::chrono_literals;
constexpr base::WallTime kStart = fakes::ManualScheduler::kStart;

class RegistryTimeTest : public ::testing::Test {
 protected:
  RegistryTimeTest() { element.set_next(below); }
  base::WallTime enroll(std::optional<base::WallTime> date = {}) {
    NetworkServiceEndpoint endpoint;
    endpoint.set_name("nse");
    if (date) set_time(endpoint.mutable_initial_registration_time(), *date);
    return to_wall(scheduler.run(element.enroll(call, endpoint)).value().value().initial_registration_time());
  }
  fakes::ManualScheduler scheduler;
  RegistryCall call{scheduler, base::kNoDeadline, base::StopToken()};
  RegistryTime element;
  fakes::FakeRegistry<Endpoints> below;
};

TEST_F(RegistryTimeTest, NowIfNobodySaysOtherwise) { EXPECT_EQ(enroll(), kStart); }

TEST_F(RegistryTimeTest, TheCallersDateIfItIsNew) { EXPECT_EQ(enroll(kStart - 1h), kStart - 1h); }

TEST_F(RegistryTimeTest, StaysUntilUnregistered) {
  enroll();
  scheduler.run_for(40s);
  EXPECT_EQ(enroll(), kStart);
  EXPECT_EQ(enroll(kStart - 1h), kStart);
  below.records.clear();
  EXPECT_EQ(enroll(), kStart + 40s);
}

}  // namespace
}  // namespace mesh
