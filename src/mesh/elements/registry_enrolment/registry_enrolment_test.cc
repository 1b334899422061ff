// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_enrolment/registry_enrolment.h"

#include <gmock/gmock.h>

#include "fakes/fake_registry.h"
#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using namespace std::chrono_literals;

// Watches wait until the call stops, as a registry's do.
class WatchedRegistry final : public EndpointRegistry {
 public:
  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    ++enrolled;
    set_time(record.mutable_expiration_time(), call.scheduler.wall_now() + 60s);
    co_return record;
  }
  base::Task<base::Result<void>> withdraw(RegistryCall&, Record) override { co_return base::Result<void>(); }
  base::Task<base::Result<Stream>> find(RegistryCall& call, Query) override {
    co_return std::make_unique<Silence>(call.scheduler, call.stop);
  }

  int enrolled = 0;

 private:
  class Silence final : public FindStream<Endpoints> {
   public:
    Silence(base::Scheduler& scheduler, base::StopToken stop) : scheduler_(scheduler), stop_(std::move(stop)) {}
    base::Task<base::Result<std::optional<Found<Endpoints>>>> next() override {
      co_await base::sleep_until(scheduler_, base::kNoDeadline, stop_);
      co_return base::fail(base::Code::cancelled, "stopped");
    }

   private:
    base::Scheduler& scheduler_;
    const base::StopToken stop_;
  };
};

class RegistryEnrolmentTest : public ::testing::Test {
 protected:
  static EnrolmentPlan plan() {
    EnrolmentPlan plan;
    plan.endpoint.set_name("nse");
    plan.endpoint.set_url("tcp://192.0.2.1:5000");
    return plan;
  }
  void finish(RegistryEnrolment& enrolment) { scheduler.run(finished(enrolment)); }
  static base::Task<bool> finished(RegistryEnrolment& enrolment) {
    co_await enrolment.finish();
    co_return true;
  }

  fakes::ManualScheduler scheduler;
  fakes::FakeRegistry<Services> services;
};

TEST_F(RegistryEnrolmentTest, RefreshesAfterTwoThirdsOfItsLifeAgainAndAgain) {
  WatchedRegistry endpoints;
  RegistryEnrolment enrolment(scheduler, services, endpoints, plan());
  ASSERT_TRUE(scheduler.run(enrolment.start()).value());
  scheduler.run_for(39s);
  EXPECT_EQ(endpoints.enrolled, 1);
  scheduler.run_for(2s);
  EXPECT_EQ(endpoints.enrolled, 2);
  scheduler.run_for(40s);
  EXPECT_EQ(endpoints.enrolled, 3);
  finish(enrolment);
}

TEST_F(RegistryEnrolmentTest, RegistersAgainWhenItsWatchEnds) {
  fakes::FakeRegistry<Endpoints> endpoints;  // whose watches end at once
  RegistryEnrolment enrolment(scheduler, services, endpoints, plan());
  ASSERT_TRUE(scheduler.run(enrolment.start()).value());
  scheduler.run_for(1s);
  EXPECT_EQ(endpoints.enrolled.size(), 6u);  // at once, and every 200 ms
  finish(enrolment);
}

TEST_F(RegistryEnrolmentTest, TriesAgainUntilItIsRegistered) {
  WatchedRegistry endpoints;
  EnrolmentPlan with_service = plan();
  with_service.services.emplace_back().set_name("service");
  for (int i = 0; i < 3; ++i) services.fail_next(base::Code::unavailable, "not yet");
  RegistryEnrolment enrolment(scheduler, services, endpoints, std::move(with_service));
  ASSERT_TRUE(scheduler.run(enrolment.start()).value());
  EXPECT_EQ(services.enrolled.size(), 4u);
  EXPECT_EQ(endpoints.enrolled, 1);
  finish(enrolment);
}

TEST_F(RegistryEnrolmentTest, AServiceThatIsAnothersIsOfferedAllTheSame) {
  WatchedRegistry endpoints;
  EnrolmentPlan with_service = plan();
  with_service.services.emplace_back().set_name("service");
  services.records.emplace("service", with_service.services.front());
  services.fail_next(base::Code::permission_denied, "no sufficient privileges");
  RegistryEnrolment enrolment(scheduler, services, endpoints, std::move(with_service));
  ASSERT_TRUE(scheduler.run(enrolment.start()).value());
  EXPECT_EQ(endpoints.enrolled, 1);
  finish(enrolment);
}

TEST_F(RegistryEnrolmentTest, ARefusedServiceThatNobodyHasIsTriedAgain) {
  WatchedRegistry endpoints;
  EnrolmentPlan with_service = plan();
  with_service.services.emplace_back().set_name("service");
  services.fail_next(base::Code::permission_denied, "no sufficient privileges");
  RegistryEnrolment enrolment(scheduler, services, endpoints, std::move(with_service));
  ASSERT_TRUE(scheduler.run(enrolment.start()).value());
  EXPECT_EQ(services.enrolled.size(), 2u);
  finish(enrolment);
}

}  // namespace
}  // namespace mesh
