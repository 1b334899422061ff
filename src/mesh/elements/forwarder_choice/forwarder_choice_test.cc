// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/forwarder_choice/forwarder_choice.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "fakes/fake_registry.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

class ForwarderChoiceTest : public ::testing::Test {
 protected:
  ForwarderChoiceTest() {
    services.records["icmp-responder"].set_name("icmp-responder");
    bench.below->on_request = [this](Call& call, NetworkServiceRequest&) {
      state = call.context().state;
      events = call.context().events;
      tried.push_back(state->get<NextHop>().url);
      if (stop_after_attempt) bench.stop.request_stop();
    };
    bench.below->on_close = [this](const Connection&) { closed_at.push_back(state->get<NextHop>().url); };
  }

  NetworkServiceEndpoint& forwarder(const std::string& name, const Labels& labels = {}) {
    auto& record = forwarders.records[name];
    record.set_name(name);
    record.set_url("unix:///" + name);
    record.add_network_service_names("forwarder");
    auto& own = *(*record.mutable_network_service_labels())["forwarder"].mutable_labels();
    for (const auto& [key, value] : labels) own[key] = value;
    return record;
  }
  // As a client asks that was connected through that forwarder before this manager started.
  static NetworkServiceRequest asking_with_path(const std::string& forwarder) {
    auto request = fakes::ChainBench::asking("c1");
    auto& path = *request.mutable_connection()->mutable_path();
    path.set_index(1);
    for (const auto& name : {std::string("client"), std::string("manager"), forwarder}) {
      path.add_path_segments()->set_name(name);
    }
    return request;
  }

  fakes::FakeRegistry<Services> services;
  fakes::FakeRegistry<Endpoints> forwarders;
  fakes::ChainBench bench{std::make_shared<ForwarderChoice>(services, forwarders, "forwarder", "tcp://this-node:5001")};
  std::shared_ptr<ConnectionState> state;  // of the connection that was requested last
  std::shared_ptr<ConnectionEvents> events;
  bool stop_after_attempt = false;
  std::vector<std::string> tried;
  std::vector<std::string> closed_at;
};

TEST_F(ForwarderChoiceTest, WithoutAForwarderTheClientIsToldWhatIsMissing) {
  const auto refused = bench.request(bench.asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::not_found);
  EXPECT_THAT(refused.error().message(), HasSubstr("this node has 0 forwarders registered as 'forwarder'"));
}

TEST_F(ForwarderChoiceTest, AsksForThisNodesForwardersAlone) {
  forwarder("fwd-a");
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  const auto& query = forwarders.queries.at(0).network_service_endpoint();
  EXPECT_EQ(query.url(), "tcp://this-node:5001");
  EXPECT_THAT(query.network_service_names(), ElementsAre("forwarder"));
}

TEST_F(ForwarderChoiceTest, AForwarderWithoutTheDemandedLabelsIsNotTried) {
  auto& match = *services.records["icmp-responder"].add_matches();
  (*match.mutable_metadata()->mutable_labels())["sriov"] = "true";
  forwarder("fwd-a", {{"p2p", "true"}});
  const auto refused = bench.request(bench.asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("this node has 1 forwarders"));
  EXPECT_THAT(tried, IsEmpty());
  forwarder("fwd-b", {{"sriov", "true"}});
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-b"));
}

TEST_F(ForwarderChoiceTest, AnExpiredForwarderIsNotTried) {
  set_time(forwarder("fwd-a").mutable_expiration_time(), bench.scheduler.wall_now());
  forwarder("fwd-b");
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-b"));
}

TEST_F(ForwarderChoiceTest, WhenAllFailEachIsNamedWithItsReason) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  bench.below->fail_next(Code::unavailable, "it is starting");
  bench.below->fail_next(Code::unimplemented, "it has no such mechanism");
  const auto refused = bench.request(bench.asking("c1"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("fwd-a: it is starting; fwd-b: it has no such mechanism"));
}

TEST_F(ForwarderChoiceTest, AClientThatHasLeftCausesNoMoreAttempts) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  stop_after_attempt = true;
  bench.below->fail_next(Code::cancelled, "the call was cancelled");
  EXPECT_FALSE(bench.request(bench.asking("c1")));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-a"));
}

TEST_F(ForwarderChoiceTest, ARefreshStaysWithTheForwarderThatSucceeded) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  bench.below->fail_next(Code::unavailable, "it is starting");
  const auto first = bench.request(bench.asking("c1"));
  ASSERT_TRUE(first);
  ASSERT_TRUE(bench.request(bench.refreshing(*first)));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-a", "unix:///fwd-b", "unix:///fwd-b"));
}

TEST_F(ForwarderChoiceTest, AFailedRefreshDoesNotMoveTheConnection) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  const auto first = bench.request(bench.asking("c1"));
  bench.below->fail_next(Code::unavailable, "it is busy");
  EXPECT_FALSE(bench.request(bench.refreshing(*first)));
  ASSERT_TRUE(bench.request(bench.refreshing(*first)));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-a", "unix:///fwd-a", "unix:///fwd-a"));
}

TEST_F(ForwarderChoiceTest, ARefreshIsRefusedWhileItsForwarderIsGone) {
  forwarder("fwd-a");
  const auto first = bench.request(bench.asking("c1"));
  forwarders.records.clear();
  forwarder("fwd-b");
  const auto refused = bench.request(bench.refreshing(*first));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::unavailable);
  EXPECT_EQ(refused.error().message(), "forwarder fwd-a is not available");
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-a"));
}

TEST_F(ForwarderChoiceTest, ANewSelectionForgetsTheForwarderAndThePath) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  ASSERT_TRUE(bench.request(asking_with_path("fwd-b")));
  ASSERT_TRUE(bench.scheduler.run(events->request_again(Reselect::endpoint, {})).value());
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-b", "unix:///fwd-a"));
  EXPECT_THAT(closed_at, ElementsAre("unix:///fwd-b"));
}

TEST_F(ForwarderChoiceTest, AfterARestartThePathRemembers) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  ASSERT_TRUE(bench.request(asking_with_path("fwd-b")));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-b"));
}

TEST_F(ForwarderChoiceTest, WhatThePathRemembersIsNotTheOnlyChoice) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  bench.below->fail_next(Code::unavailable, "it has forgotten");
  ASSERT_TRUE(bench.request(asking_with_path("fwd-b")));
  EXPECT_THAT(tried, ElementsAre("unix:///fwd-b", "unix:///fwd-a"));
}

TEST_F(ForwarderChoiceTest, CloseGoesToTheForwarderWhereverItIsNow) {
  forwarder("fwd-a");
  forwarder("fwd-b");
  bench.below->fail_next(Code::unavailable, "it is starting");
  const auto connection = bench.request(bench.asking("c1"));
  forwarders.records["fwd-b"].set_url("unix:///fwd-b-restarted");
  ASSERT_TRUE(bench.close(*connection));
  EXPECT_THAT(closed_at, ElementsAre("unix:///fwd-b-restarted"));
}

TEST_F(ForwarderChoiceTest, CloseGoesToTheOldAddressOfAForwarderThatVanished) {
  forwarder("fwd-a");
  const auto connection = bench.request(bench.asking("c1"));
  forwarders.records.clear();
  forwarder("fwd-b");
  ASSERT_TRUE(bench.close(*connection));
  EXPECT_THAT(closed_at, ElementsAre("unix:///fwd-a"));
}

}  // namespace
}  // namespace mesh
