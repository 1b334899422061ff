// SPDX-License-Identifier: Apache-2.0
#include "registry/memory_registry.h"

#include <gmock/gmock.h>

#include "fakes/manual_scheduler.h"

namespace registry {
namespace {

using base::Code;
using mesh::Endpoints;
using mesh::Found;
using mesh::NetworkServiceEndpoint;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

NetworkServiceEndpoint endpoint(const std::string& name, std::vector<std::string> services = {"icmp"}) {
  NetworkServiceEndpoint result;
  result.set_name(name);
  result.set_url("tcp://10.0.0.1:5001");
  for (auto& service : services) result.add_network_service_names(std::move(service));
  return result;
}

Endpoints::Query query_for(const std::string& name, bool watch, const std::string& service = {}) {
  Endpoints::Query query;
  query.set_watch(watch);
  query.mutable_network_service_endpoint()->set_name(name);
  if (!service.empty()) query.mutable_network_service_endpoint()->add_network_service_names(service);
  return query;
}

class MemoryRegistryTest : public ::testing::Test {
 protected:
  mesh::RegistryCall call() { return {scheduler, base::kNoDeadline, stop.token()}; }

  void enroll(NetworkServiceEndpoint record) {
    auto context = call();
    ASSERT_TRUE(scheduler.run(store.enroll(context, std::move(record))).value().has_value());
  }
  void withdraw(const std::string& name) {
    auto context = call();
    ASSERT_TRUE(scheduler.run(store.withdraw(context, endpoint(name))).value().has_value());
  }
  std::unique_ptr<mesh::FindStream<Endpoints>> find(Endpoints::Query query) {
    auto context = call();
    return std::move(scheduler.run(store.find(context, std::move(query))).value().value());
  }
  // What the stream says next: a name, with a minus if deleted; "end"; or the code of its error.
  std::string next(mesh::FindStream<Endpoints>& stream) {
    const auto step = scheduler.run(stream.next(), base::Duration::zero()).value();
    if (!step) return std::string(base::name_of(step.error().code()));
    if (!*step) return "end";
    const auto& response = (*step)->response;
    return (response.deleted() ? "-" : "") + response.network_service_endpoint().name();
  }
  std::vector<std::string> all(mesh::FindStream<Endpoints>& stream) {
    std::vector<std::string> said;
    do said.push_back(next(stream));
    while (said.back() != "end" && said.back() != base::name_of(Code::resource_exhausted));
    return said;
  }

  fakes::ManualScheduler scheduler;
  base::StopSource stop;
  MemoryRegistry<Endpoints> store{scheduler};
};

TEST_F(MemoryRegistryTest, FindAnswersAllThatMatchOrderedByNameAndEnds) {
  enroll(endpoint("c"));
  enroll(endpoint("a"));
  enroll(endpoint("b", {"other"}));
  EXPECT_THAT(all(*find(query_for("", false))), ElementsAre("a", "b", "c", "end"));
  EXPECT_THAT(all(*find(query_for("", false, "icmp"))), ElementsAre("a", "c", "end"));
  EXPECT_THAT(all(*find(query_for("b", false))), ElementsAre("b", "end"));
  EXPECT_THAT(all(*find(query_for("b", false, "icmp"))), ElementsAre("end"));
  EXPECT_THAT(all(*find(query_for("absent", false))), ElementsAre("end"));
}

TEST_F(MemoryRegistryTest, WatchTellsWhatIsThereThenEveryChangeThatMatches) {
  enroll(endpoint("b"));
  enroll(endpoint("a"));
  enroll(endpoint("other", {"other"}));
  const auto watch = find(query_for("", true, "icmp"));
  enroll(endpoint("d", {"other"}));
  enroll(endpoint("c"));
  withdraw("a");
  EXPECT_EQ(next(*watch), "a");
  EXPECT_EQ(next(*watch), "b");
  EXPECT_EQ(next(*watch), "c");
  EXPECT_EQ(next(*watch), "-a");
}

TEST_F(MemoryRegistryTest, ARefreshIsToldAgainAndADeletionOnceWithTheLastRecord) {
  const auto watch = find(query_for("a", true));
  enroll(endpoint("a"));
  enroll(endpoint("a"));
  enroll(endpoint("b"));
  withdraw("a");
  withdraw("a");
  EXPECT_EQ(next(*watch), "a");
  EXPECT_EQ(next(*watch), "a");
  const auto deleted = scheduler.run(watch->next()).value().value().value().response;
  EXPECT_TRUE(deleted.deleted());
  EXPECT_EQ(deleted.network_service_endpoint().url(), "tcp://10.0.0.1:5001");
  stop.request_stop();
  EXPECT_EQ(next(*watch), "Canceled");
}

TEST_F(MemoryRegistryTest, AnEndpointThatLeavesAServiceIsNoLongerFoundUnderIt) {
  enroll(endpoint("a", {"one", "two", "one"}));
  enroll(endpoint("a", {"two"}));
  EXPECT_THAT(all(*find(query_for("", false, "one"))), ElementsAre("end"));
  EXPECT_THAT(all(*find(query_for("", false, "two"))), ElementsAre("a", "end"));
}

TEST_F(MemoryRegistryTest, ASlowWatcherIsToldToWatchAgain) {
  const auto watch = find(query_for("a", true));
  for (std::size_t i = 0; i < kMaxBacklog + 10; ++i) enroll(endpoint("a"));
  const auto said = all(*watch);
  EXPECT_EQ(said.size(), kMaxBacklog + 1);
  EXPECT_EQ(said.back(), base::name_of(Code::resource_exhausted));
}

TEST_F(MemoryRegistryTest, StoppingTheCallEndsItsWatch) {
  const auto watch = find(query_for("a", true));
  stop.request_stop();
  EXPECT_EQ(next(*watch), "Canceled");
}

TEST_F(MemoryRegistryTest, DroppingAStreamForgetsItsWatch) {
  auto one = find(query_for("a", true));
  auto two = find(query_for("", true));
  EXPECT_EQ(store.watches(), 2U);
  one.reset();
  EXPECT_EQ(store.watches(), 1U);
  two.reset();
  EXPECT_EQ(store.watches(), 0U);
}

TEST(MemoryRegistryEnd, EndsItsWatches) {
  fakes::ManualScheduler scheduler;
  auto store = std::make_unique<MemoryRegistry<mesh::Services>>(scheduler);
  mesh::RegistryCall call(scheduler, base::kNoDeadline, base::StopToken());
  mesh::Services::Query query;
  query.set_watch(true);
  auto watch = std::move(scheduler.run(store->find(call, query)).value().value());
  store.reset();
  const auto end = scheduler.run(watch->next()).value();
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().code(), Code::unavailable);
  EXPECT_THAT(end.error().message(), HasSubstr("registry"));
}

}  // namespace
}  // namespace registry
