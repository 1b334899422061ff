// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_serialised/registry_serialised.h"

#include <gmock/gmock.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"
#include "mesh/core/api.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class RegistrySerialisedTest : public ::testing::Test {
 protected:
  RegistrySerialisedTest() { element.set_next(below); }
  RegistryCall call() { return {scheduler, scheduler.now() + 5s, base::StopToken()}; }
  static NetworkServiceEndpoint named(const std::string& name, const std::string& url = {}) {
    NetworkServiceEndpoint endpoint;
    endpoint.set_name(name);
    endpoint.set_url(url);
    return endpoint;
  }
  static base::Task<void> enroll(RegistrySerialised<Endpoints>& element, RegistryCall& call, std::string name,
                                 std::shared_ptr<std::optional<base::Result<NetworkServiceEndpoint>>> out) {
    auto stored = co_await element.enroll(call, named(name));
    out->emplace(std::move(stored));
  }
  auto start(RegistryCall& context, const std::string& name) {
    auto out = std::make_shared<std::optional<base::Result<NetworkServiceEndpoint>>>();
    base::spawn_detached(enroll(element, context, name, out));
    return out;
  }

  fakes::ManualScheduler scheduler;
  RegistrySerialised<Endpoints> element{scheduler};
  fakes::FakeRegistry<Endpoints> below;
};

TEST_F(RegistrySerialisedTest, OneNameWaitsAnotherDoesNot) {
  below.before_answer = [this]() -> base::Task<void> { co_await base::sleep_for(scheduler, 1s, base::StopToken()); };
  auto context = call();
  const auto first = start(context, "a");
  const auto second = start(context, "a");
  const auto other = start(context, "b");
  scheduler.run_for(500ms);
  EXPECT_EQ(below.enrolled.size(), 2U);
  scheduler.run_for(600ms);
  EXPECT_TRUE(*first && *other);
  EXPECT_FALSE(*second);
  EXPECT_EQ(below.enrolled.size(), 3U);
  scheduler.run_for(1s);
  EXPECT_TRUE(*second && **second);
  EXPECT_EQ(element.turns().names_in_use(), 0U);
}

TEST_F(RegistrySerialisedTest, WhoeverWaitsTooLongGivesUp) {
  below.before_answer = [this]() -> base::Task<void> { co_await base::sleep_for(scheduler, 1min, base::StopToken()); };
  auto context = call();
  const auto first = start(context, "a");
  const auto second = start(context, "a");
  scheduler.run_for(6s);
  ASSERT_TRUE(*second);
  EXPECT_EQ((*second)->error().code(), Code::deadline_exceeded);
  scheduler.run_for(1min);
  EXPECT_TRUE(*first);
  EXPECT_EQ(below.enrolled.size(), 1U);
}

TEST_F(RegistrySerialisedTest, UnregisteringUsesWhatWasRegistered) {
  auto context = call();
  ASSERT_TRUE(scheduler.run(element.enroll(context, named("a", "tcp://10.0.0.1:1"))).value());
  ASSERT_TRUE(scheduler.run(element.withdraw(context, named("a", "tcp://evil:1"))).value());
  ASSERT_EQ(below.withdrawn.size(), 1U);
  EXPECT_EQ(below.withdrawn[0].url(), "tcp://10.0.0.1:1");
}

TEST_F(RegistrySerialisedTest, WhatIsUnknownHereIsPassedOnAsItCame) {
  auto context = call();
  ASSERT_TRUE(scheduler.run(element.withdraw(context, named("a", "tcp://10.0.0.2:1"))).value());
  ASSERT_EQ(below.withdrawn.size(), 1U);
  EXPECT_EQ(below.withdrawn[0].url(), "tcp://10.0.0.2:1");
}

TEST_F(RegistrySerialisedTest, NamelessRecordsAreRefused) {
  auto context = call();
  const auto refused = scheduler.run(element.enroll(context, named(""))).value();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("endpoint has no name"));
  EXPECT_FALSE(scheduler.run(element.withdraw(context, named(""))).value());
  EXPECT_TRUE(below.enrolled.empty());
}

}  // namespace
}  // namespace mesh
