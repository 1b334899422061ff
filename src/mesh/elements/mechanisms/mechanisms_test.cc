// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/mechanisms/mechanisms.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using base::Code;
using base::Result;
using base::Task;
using fakes::ChainBench;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes what happens to it into a shared diary, and marks the request it passes on.
class Recorded final : public Element {
 public:
  Recorded(std::string name, std::vector<std::string>& diary) : name_(std::move(name)), diary_(diary) {}

  Task<Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    diary_.push_back(name_ + " request");
    if (broken) co_return base::fail(Code::unavailable, "{} is broken", name_);
    (*request.mutable_connection()->mutable_mechanism()->mutable_parameters())["by"] = name_;
    co_return co_await call.next(std::move(request));
  }
  Task<Result<void>> close(Call& call, Connection connection) override {
    diary_.push_back(name_ + " close");
    return call.next_close(std::move(connection));
  }

  bool broken = false;

 private:
  std::string name_;
  std::vector<std::string>& diary_;
};

struct MechanismsTest : ::testing::Test {
  std::vector<std::string> diary;
  std::shared_ptr<Recorded> kernel = std::make_shared<Recorded>("KERNEL", diary);
  std::shared_ptr<Recorded> memif = std::make_shared<Recorded>("MEMIF", diary);
  ChainBench bench{std::make_shared<Mechanisms>(Mechanisms::Offers{{"KERNEL", kernel}, {"MEMIF", memif}})};

  static NetworkServiceRequest preferring(std::initializer_list<const char*> types) {
    auto request = ChainBench::asking("c1");
    for (const char* type : types) {
      auto* mechanism = request.add_mechanism_preferences();
      mechanism->set_cls("LOCAL");
      mechanism->set_type(type);
      (*mechanism->mutable_parameters())["name"] = std::string("for-") + type;
    }
    return request;
  }
};

TEST_F(MechanismsTest, FirstPreferenceOfferedIsTaken) {
  const auto connection = bench.request(preferring({"VFIO", "MEMIF", "KERNEL"}));
  ASSERT_TRUE(connection) << connection.error().message();
  EXPECT_EQ(connection->mechanism().type(), "MEMIF");
  EXPECT_EQ(connection->mechanism().cls(), "LOCAL");
  EXPECT_EQ(mechanism_parameter(connection->mechanism(), "name"), "for-MEMIF");
  EXPECT_THAT(diary, ElementsAre("MEMIF request"));
}

TEST_F(MechanismsTest, WhatStandsBelowIsReachedThroughTheChosenElement) {
  ASSERT_TRUE(bench.request(preferring({"KERNEL"})));
  ASSERT_EQ(bench.below->requests.size(), 1U);
  EXPECT_EQ(mechanism_parameter(bench.below->requests[0].connection().mechanism(), "by"), "KERNEL");
}

TEST_F(MechanismsTest, NextPreferenceIsTriedOnAFreshCopy) {
  memif->broken = true;
  const auto connection = bench.request(preferring({"MEMIF", "KERNEL"}));
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->mechanism().type(), "KERNEL");
  EXPECT_EQ(mechanism_parameter(connection->mechanism(), "name"), "for-KERNEL");
  EXPECT_THAT(diary, ElementsAre("MEMIF request", "KERNEL request"));
}

TEST_F(MechanismsTest, TwoPreferencesOfOneTypeAreBothTried) {
  bench.below->fail_next(Code::unavailable, "first refused");
  ASSERT_TRUE(bench.request(preferring({"KERNEL", "KERNEL"})));
  EXPECT_THAT(diary, ElementsAre("KERNEL request", "KERNEL request"));
}

TEST_F(MechanismsTest, AllFailuresAreTold) {
  memif->broken = kernel->broken = true;
  const auto refused = bench.request(preferring({"MEMIF", "KERNEL"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::unknown);
  EXPECT_EQ(refused.error().message(),
            "cannot support any of the requested mechanisms: MEMIF: MEMIF is broken; KERNEL: KERNEL is broken");
}

TEST_F(MechanismsTest, SingleFailureKeepsItsCode) {
  bench.below->fail_next(Code::resource_exhausted, "no addresses");
  const auto refused = bench.request(preferring({"KERNEL"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::resource_exhausted);
}

TEST_F(MechanismsTest, NothingOfferedNamesWhatIs) {
  const auto refused = bench.request(preferring({"VFIO"}));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("VFIO: ask for one of KERNEL, MEMIF"));
}

TEST_F(MechanismsTest, NoPreferenceAtAllIsRefused) {
  const auto refused = bench.request(preferring({}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
}

TEST_F(MechanismsTest, CancelledCallTriesNoFurther) {
  bench.below->on_request = [&](Call&, NetworkServiceRequest&) { bench.stop.request_stop(); };
  bench.below->fail_next(Code::cancelled, "the call was cancelled");
  const auto refused = bench.request(preferring({"MEMIF", "KERNEL"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::cancelled);
  EXPECT_THAT(diary, ElementsAre("MEMIF request"));
}

TEST_F(MechanismsTest, NamedMechanismIsTheOnlyOneTried) {
  auto request = preferring({"KERNEL"});
  request.mutable_connection()->mutable_mechanism()->set_type("MEMIF");
  memif->broken = true;
  EXPECT_FALSE(bench.request(request));
  EXPECT_THAT(diary, ElementsAre("MEMIF request"));
}

TEST_F(MechanismsTest, NamedMechanismThatIsNotOfferedIsAnError) {
  auto request = preferring({"KERNEL"});
  request.mutable_connection()->mutable_mechanism()->set_type("VXLAN");
  const auto refused = bench.request(request);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("unsupported mechanism VXLAN"));
}

TEST_F(MechanismsTest, RefreshAndCloseGoThroughTheSameElement) {
  const auto connection = bench.request(preferring({"MEMIF"}));
  ASSERT_TRUE(bench.request(bench.refreshing(*connection)));
  ASSERT_TRUE(bench.close(*connection));
  EXPECT_THAT(diary, ElementsAre("MEMIF request", "MEMIF request", "MEMIF close"));
  EXPECT_EQ(bench.below->closes.size(), 1U);
}

TEST_F(MechanismsTest, ChangedTypeClosesTheOldFirst) {
  ASSERT_TRUE(bench.request(preferring({"MEMIF"})));
  const auto changed = bench.request(preferring({"KERNEL"}));
  ASSERT_TRUE(changed);
  ASSERT_TRUE(bench.close(*changed));
  EXPECT_THAT(diary, ElementsAre("MEMIF request", "MEMIF close", "KERNEL request", "KERNEL close"));
}

}  // namespace
}  // namespace mesh
