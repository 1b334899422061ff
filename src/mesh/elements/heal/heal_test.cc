// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/heal/heal.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "fakes/chain_bench.h"
#include "fakes/loopback_network.h"
#include "mesh/elements/connect/connect_to.h"

namespace mesh {
namespace {

using base::Code;
using base::Result;
using base::Task;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

constexpr const char* kManager = "unix:///manager";

// A manager that tells its subscribers what the test says.
class Manager {
 public:
  struct Subscription {
    Subscription(base::Scheduler& scheduler, MonitorScopeSelector s) : selector(std::move(s)), messages(scheduler) {}
    MonitorScopeSelector selector;
    base::AsyncQueue<rpc::Bytes> messages;  // closed: the manager ends the stream
    bool left = false;
  };

  explicit Manager(base::Scheduler& scheduler) : scheduler_(scheduler) {
    services[method::kMonitor] = rpc::StreamHandler(
        [this](rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& out) { return serve(call, body, out); });
  }

  void tell(connection::ConnectionEventType type, const Connection& connection) {
    ConnectionEvent event;
    event.set_type(type);
    (*event.mutable_connections())["at-the-manager"] = connection;
    subscriptions.back()->messages.push(event.SerializeAsString());
  }
  std::size_t subscribed() const {
    return static_cast<std::size_t>(std::ranges::count(subscriptions, false, &Subscription::left));
  }

  rpc::Services services;
  std::vector<std::shared_ptr<Subscription>> subscriptions;  // as they came

 private:
  Task<Result<void>> serve(rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& out) {
    MonitorScopeSelector selector;
    EXPECT_TRUE(selector.ParseFromString(body));
    auto one = subscriptions.emplace_back(std::make_shared<Subscription>(scheduler_, std::move(selector)));
    auto ended = call.stop.on_stop([one] { one->messages.close(); });
    for (;;) {
      auto message = co_await one->messages.pop();
      if (!message) break;
      auto written = co_await out.write(std::move(*message), {});
      if (!written) break;
    }
    one->left = true;
    co_return Result<void>();
  }

  base::Scheduler& scheduler_;
};

// Packets that cross or do not.
class Packets final : public Liveness {
 public:
  Task<Result<bool>> alive(const Connection&, base::Duration, base::StopToken) override {
    ++checks;
    if (unknown) co_return base::fail(Code::internal, "no socket for the echo");
    co_return cross;
  }
  bool cross = true;
  bool unknown = false;
  int checks = 0;
};

class HealTest : public ::testing::Test {
 protected:
  struct Top final : Element {
    using Gives = Types<Identified>;
  };

  explicit HealTest(bool check_liveness = true) {
    options.check_liveness = check_liveness;
    heal = std::make_shared<Heal>(scheduler, random, *client, packets, options,
                                  [this](const std::string&, std::string_view what) { observed.emplace_back(what); });
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>())
        .add("begin", begin)
        .add("connect_to", std::make_shared<ConnectTo>(kManager))
        .add("heal", heal)
        .add("below", below);
    chain.emplace(std::move(builder).build());
    below->on_request = [this](Call&, NetworkServiceRequest& asked) {
      times.push_back(scheduler.now());
      asked.mutable_connection()->set_network_service_endpoint_name("nse-1");
    };
  }
  ~HealTest() override {
    scheduler.run(finish());
    scheduler.run_ready();  // the manager's side of it
  }

  Task<bool> finish() {
    co_await heal->finish();
    co_await begin->finish();
    co_return true;
  }
  Result<Connection> request() {
    NetworkServiceRequest asking;
    Connection& connection = *asking.mutable_connection();
    connection.set_id("c1");
    connection.set_network_service("icmp-responder");
    connection.mutable_path()->add_path_segments()->set_name("client");
    connection.mutable_path()->mutable_path_segments(0)->set_id("c1");
    CallContext context(scheduler, base::kNoDeadline, {});
    auto answer = scheduler.run(chain->request(context, std::move(asking))).value();
    scheduler.run_ready();
    return answer;
  }
  void close() {
    Connection connection;
    connection.set_id("c1");
    CallContext context(scheduler, base::kNoDeadline, {});
    ASSERT_TRUE(scheduler.run(chain->close(context, std::move(connection))).value());
    scheduler.run_ready();
  }
  // Whether the request that came last asks for the same connection or a new choice.
  bool selected_anew() const {
    const Connection& last = below->requests.back().connection();
    return last.state() == connection::RESELECT_REQUESTED && last.network_service_endpoint_name().empty();
  }

  fakes::ManualScheduler scheduler;
  fakes::LoopbackNetwork network{scheduler};
  Manager manager{scheduler};
  std::unique_ptr<rpc::Transport> client = network.process();
  std::unique_ptr<rpc::Transport> server = network.process();
  std::unique_ptr<rpc::Listener> listener = server->listen(kManager, manager.services).value();
  base::SeededRandom random{7};
  Packets packets;
  HealOptions options;
  std::vector<std::string> observed;
  std::vector<base::TimePoint> times;  // of the requests
  std::shared_ptr<Begin> begin = std::make_shared<Begin>(Begin::Side::client, scheduler);
  std::shared_ptr<Heal> heal;
  std::shared_ptr<fakes::Below> below = std::make_shared<fakes::Below>();
  std::optional<Chain> chain;
};

TEST_F(HealTest, SubscribesToItsOwnSegmentAlone) {
  ASSERT_TRUE(request());
  ASSERT_THAT(manager.subscriptions, SizeIs(1));
  const auto& segments = manager.subscriptions[0]->selector.path_segments();
  ASSERT_EQ(segments.size(), 1);
  EXPECT_EQ(segments[0].name(), "client");
  EXPECT_EQ(segments[0].id(), "c1");
}

TEST_F(HealTest, WhatCannotBeMonitoredIsUndone) {
  listener = nullptr;
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("cannot monitor the connection at unix:///manager"));
  EXPECT_THAT(below->closes, SizeIs(1));
  EXPECT_EQ(begin->size(), 0U);
}

TEST_F(HealTest, NothingIsDoneWhileAllIsWell) {
  const auto connection = request();
  manager.tell(connection::INITIAL_STATE_TRANSFER, *connection);
  manager.tell(connection::UPDATE, *connection);
  scheduler.run_for(1min);
  EXPECT_THAT(below->requests, SizeIs(1));
  EXPECT_GT(packets.checks, 100);
  EXPECT_THAT(observed, IsEmpty());
}

TEST_F(HealTest, ADeletedConnectionWhosePacketsCrossIsAskedForAgain) {
  const auto connection = request();
  manager.tell(connection::DELETE, *connection);
  scheduler.run_ready();
  ASSERT_THAT(below->requests, SizeIs(2));
  EXPECT_EQ(below->requests[1].connection().network_service_endpoint_name(), "nse-1");
  EXPECT_FALSE(selected_anew());
  EXPECT_THAT(below->closes, IsEmpty());
  EXPECT_THAT(observed, ElementsAre("the control plane is down", "healed"));
}

TEST_F(HealTest, ADeletedConnectionWhosePacketsDoNotCrossIsSelectedAnew) {
  const auto connection = request();
  packets.cross = false;
  manager.tell(connection::DELETE, *connection);
  scheduler.run_ready();
  ASSERT_THAT(below->requests, SizeIs(2));
  EXPECT_TRUE(selected_anew());
  ASSERT_THAT(below->closes, SizeIs(1));
  EXPECT_EQ(below->closes[0].network_service_endpoint_name(), "nse-1");
  EXPECT_THAT(observed, ElementsAre("the control plane is down", "healed, selected anew"));
}

TEST_F(HealTest, AConnectionReportedDownIsHealed) {
  auto connection = request();
  connection->set_state(connection::DOWN);
  manager.tell(connection::UPDATE, *connection);
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(2));
}

TEST_F(HealTest, AnothersConnectionIsNotItsConcern) {
  auto connection = request();
  connection->mutable_path()->mutable_path_segments(0)->set_id("c2");
  manager.tell(connection::DELETE, *connection);
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(1));
  connection->clear_path();
  manager.tell(connection::DELETE, *connection);
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(1));
}

TEST_F(HealTest, ALinkThatBreaksIsHealed) {
  ASSERT_TRUE(request());
  network.break_connections(kManager);
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(2));
  EXPECT_EQ(manager.subscribed(), 1U);
}

TEST_F(HealTest, AManagerThatEndsTheSubscriptionIsAskedAgain) {
  ASSERT_TRUE(request());
  manager.subscriptions[0]->messages.close();
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(2));
  EXPECT_EQ(manager.subscribed(), 1U);
}

TEST_F(HealTest, AMessageThatCannotBeReadCountsAsTrouble) {
  ASSERT_TRUE(request());
  manager.subscriptions[0]->messages.push("\xff");
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(2));
}

TEST_F(HealTest, AnEndpointThatWantsARefreshGetsOne) {
  auto connection = request();
  connection->set_state(connection::REFRESH_REQUESTED);
  manager.tell(connection::UPDATE, *connection);
  scheduler.run_ready();
  ASSERT_THAT(below->requests, SizeIs(2));
  EXPECT_FALSE(selected_anew());
}

TEST_F(HealTest, PacketsThatStopCrossingLeadToAnotherEndpoint) {
  ASSERT_TRUE(request());
  scheduler.run_for(5s);
  packets.cross = false;
  below->on_request = [this](Call&, NetworkServiceRequest&) { packets.cross = true; };
  scheduler.run_for(options.interval);
  ASSERT_THAT(below->requests, SizeIs(2));
  EXPECT_TRUE(selected_anew());
  EXPECT_THAT(below->closes, SizeIs(1));
  scheduler.run_for(1min);
  EXPECT_THAT(below->requests, SizeIs(2));
  EXPECT_THAT(observed, ElementsAre("packets do not cross", "healed, selected anew"));
}

TEST_F(HealTest, ACheckThatCannotBeMadeSaysNothing) {
  ASSERT_TRUE(request());
  packets.unknown = true;
  scheduler.run_for(1min);
  EXPECT_GT(packets.checks, 100);
  EXPECT_THAT(below->requests, SizeIs(1));
}

TEST_F(HealTest, GoesOnUntilItSucceedsWithPausesThatGrow) {
  ASSERT_TRUE(request());
  for (int i = 0; i < 8; ++i) below->fail_next(Code::unavailable, "nobody is there");
  network.break_connections(kManager);
  scheduler.run_for(1min);
  ASSERT_THAT(below->requests, SizeIs(10));
  EXPECT_LT(times[2] - times[1], 50ms);
  for (std::size_t i = 8; i < times.size(); ++i) {
    EXPECT_GE(times[i] - times[i - 1], 1s);
    EXPECT_LE(times[i] - times[i - 1], 1500ms);
  }
  EXPECT_THAT(observed, ElementsAre("the control plane is down", "healed"));
}

TEST_F(HealTest, AManagerThatComesBackIsFoundAndWatchedAgain) {
  const auto connection = request();
  listener = nullptr;
  scheduler.run_for(5s);
  EXPECT_THAT(observed, ElementsAre("the control plane is down"));
  EXPECT_THAT(below->closes, IsEmpty());  // packets cross all the while
  listener = server->listen(kManager, manager.services).value();
  scheduler.run_for(2s);
  EXPECT_THAT(observed, ElementsAre("the control plane is down", "healed"));
  const auto requests = below->requests.size();
  manager.tell(connection::DELETE, *connection);
  scheduler.run_ready();
  EXPECT_EQ(below->requests.size(), requests + 1);
}

TEST_F(HealTest, ARefreshTakesTheOldSubscriptionsPlace) {
  ASSERT_TRUE(request());
  ASSERT_TRUE(request());
  EXPECT_EQ(manager.subscribed(), 1U);
  network.break_connections(kManager);
  scheduler.run_ready();
  EXPECT_THAT(below->requests, SizeIs(3));
}

TEST_F(HealTest, AFailedRefreshIsHealedAtOnce) {
  ASSERT_TRUE(request());
  below->fail_next(Code::unavailable, "the forwarder restarts");
  EXPECT_FALSE(request());
  EXPECT_THAT(below->requests, SizeIs(3));
  EXPECT_EQ(manager.subscribed(), 1U);
  EXPECT_THAT(observed, ElementsAre("the control plane is down", "healed"));
}

TEST_F(HealTest, CloseEndsTheWatching) {
  ASSERT_TRUE(request());
  close();
  EXPECT_EQ(manager.subscribed(), 0U);
  const int checks = packets.checks;
  packets.cross = false;
  network.break_connections(kManager);
  scheduler.run_for(1min);
  EXPECT_THAT(below->requests, SizeIs(1));
  EXPECT_EQ(packets.checks, checks);
}

TEST_F(HealTest, CloseEndsARepairThatDoesNotSucceed) {
  ASSERT_TRUE(request());
  for (int i = 0; i < 100; ++i) below->fail_next(Code::unavailable, "nobody is there");
  network.break_connections(kManager);
  scheduler.run_for(5s);
  const auto requests = below->requests.size();
  EXPECT_GT(requests, 3U);
  close();
  scheduler.run_for(1min);
  EXPECT_EQ(below->requests.size(), requests);
  EXPECT_EQ(scheduler.pending_timers(), 0U);
}

TEST_F(HealTest, FinishDoesNotWaitForARepairThatDoesNotSucceed) {
  ASSERT_TRUE(request());
  for (int i = 0; i < 100; ++i) below->fail_next(Code::unavailable, "nobody is there");
  network.break_connections(kManager);
  scheduler.run_for(5s);
  EXPECT_TRUE(scheduler.run(finish(), 1ms));
}

class HealWithoutLiveness : public HealTest {
 protected:
  HealWithoutLiveness() : HealTest(false) {}
};

TEST_F(HealWithoutLiveness, TheControlPlaneAloneDecides) {
  ASSERT_TRUE(request());
  network.break_connections(kManager);
  scheduler.run_ready();
  ASSERT_THAT(below->requests, SizeIs(2));
  EXPECT_TRUE(selected_anew());
  EXPECT_EQ(packets.checks, 0);
}

}  // namespace
}  // namespace mesh
