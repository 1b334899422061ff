// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/monitor/monitor.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "mesh/elements/connect/next_hop.h"

namespace mesh {
namespace {

using base::Result;
using base::Task;
using ::testing::ElementsAre;

// No next hop can be monitored: here it is the subscribers that matter.
class NoTransport final : public rpc::Transport {
 public:
  Result<std::shared_ptr<rpc::Channel>> channel(const std::string& url, std::optional<rpc::Descriptor>) override {
    return base::fail(base::Code::unavailable, "{} is not there", url);
  }
  Result<std::unique_ptr<rpc::Listener>> listen(const std::string& url, const rpc::Services&) override {
    return base::fail(base::Code::unavailable, "{} is not there", url);
  }
};

// Writes down what a subscriber is told: "INITIAL a b", "UPDATE a", "DELETE a".
class Told final : public rpc::ServerStream {
 public:
  Task<Result<void>> write(rpc::Bytes message, std::vector<rpc::Descriptor>) override {
    ConnectionEvent event;
    event.ParseFromString(message);
    std::string line = event.type() == connection::INITIAL_STATE_TRANSFER ? "INITIAL"
                       : event.type() == connection::UPDATE               ? "UPDATE"
                                                                          : "DELETE";
    std::map<std::string, const Connection*> ordered;
    for (const auto& [id, connection] : event.connections()) ordered.emplace(id, &connection);
    for (const auto& [id, connection] : ordered) line += " " + id;
    lines.push_back(line);
    co_return Result<void>();
  }
  std::vector<std::string> lines;
};

struct Top final : Element {
  using Gives = Types<Identified, NextHop>;
};

class MonitorTest : public ::testing::Test {
 protected:
  struct Subscription {
    rpc::ServerCall call;
    base::StopSource stop;
    Told told;
  };

  MonitorTest() {
    // Each connection has come from a client whose segment is client-ID, and ends at an endpoint's that is nse-ID.
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>())
        .add("begin", std::make_shared<Begin>(Begin::Side::server, scheduler))
        .add("monitor", monitor)
        .add("below", below);
    chain.emplace(std::move(builder).build());
    below->on_request = [](Call&, NetworkServiceRequest& request) {
      Connection& connection = *request.mutable_connection();
      connection.clear_path();
      for (const std::string name : {"client", "manager", "nse"}) {
        PathSegment& segment = *connection.mutable_path()->add_path_segments();
        segment.set_name(name);
        segment.set_id(name == "manager" ? connection.id() : name + "-" + connection.id());
      }
      connection.mutable_path()->set_index(1);
    };
  }
  ~MonitorTest() override {
    for (const auto& subscription : subscriptions) subscription->stop.request_stop();
    scheduler.run_ready();
  }

  static MonitorScopeSelector segment(const std::string& name, const std::string& id) {
    MonitorScopeSelector selector;
    selector.add_path_segments()->set_name(name);
    selector.mutable_path_segments(0)->set_id(id);
    return selector;
  }
  Subscription& subscribe(MonitorScopeSelector selector) {
    auto& one = *subscriptions.emplace_back(std::make_unique<Subscription>());
    one.call.stop = one.stop.token();
    base::spawn_detached(serve(*monitor, one, std::move(selector)));
    scheduler.run_ready();
    return one;
  }
  static Task<void> serve(Monitor& monitor, Subscription& one, MonitorScopeSelector selector) {
    auto served = co_await monitor.serve(one.call, std::move(selector), one.told);
    EXPECT_FALSE(served);
  }
  void request(const std::string& id) {
    NetworkServiceRequest asking;
    asking.mutable_connection()->set_id(id);
    CallContext context(scheduler, base::kNoDeadline, {});
    ASSERT_TRUE(scheduler.run(chain->request(context, std::move(asking))).value());
    scheduler.run_ready();
  }
  void close(const std::string& id) {
    Connection connection;
    connection.set_id(id);
    CallContext context(scheduler, base::kNoDeadline, {});
    ASSERT_TRUE(scheduler.run(chain->close(context, std::move(connection))).value());
    scheduler.run_ready();
  }

  fakes::ManualScheduler scheduler;
  NoTransport transport;
  std::shared_ptr<Monitor> monitor = std::make_shared<Monitor>(scheduler, transport);
  std::shared_ptr<fakes::Below> below = std::make_shared<fakes::Below>();
  std::optional<Chain> chain;
  std::vector<std::unique_ptr<Subscription>> subscriptions;
};

TEST_F(MonitorTest, TellsOfTheConnectionWhoseSegmentIsNamed) {
  request("a");
  request("b");
  auto& one = subscribe(segment("client", "client-a"));
  request("a");
  request("b");
  close("b");
  close("a");
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL a", "UPDATE a", "DELETE a"));
}

TEST_F(MonitorTest, ASegmentAnywhereOnThePathCounts) {
  auto& one = subscribe(segment("", "nse-b"));
  request("a");
  request("b");
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL", "UPDATE b"));
}

TEST_F(MonitorTest, ANameWithoutIdSelectsAllItsConnections) {
  request("a");
  auto& one = subscribe(segment("manager", ""));
  request("b");
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL a", "UPDATE b"));
}

TEST_F(MonitorTest, WithoutASelectorEverythingIsTold) {
  request("a");
  auto& one = subscribe({});
  request("b");
  close("a");
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL a", "UPDATE b", "DELETE a"));
}

TEST_F(MonitorTest, AnIdUnderAnotherNameIsAnotherSegment) {
  request("a");
  auto& one = subscribe(segment("nse", "client-a"));
  request("a");
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL"));
}

TEST_F(MonitorTest, WhatIsClosedIsForgotten) {
  request("a");
  close("a");
  EXPECT_EQ(monitor->size(), 0U);
  auto& one = subscribe(segment("client", "client-a"));
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL"));
}

TEST_F(MonitorTest, ASubscriberThatLeavesIsForgotten) {
  auto& one = subscribe(segment("client", "client-a"));
  auto& other = subscribe({});
  EXPECT_EQ(monitor->subscribers(), 2U);
  one.stop.request_stop();
  scheduler.run_ready();
  EXPECT_EQ(monitor->subscribers(), 1U);
  request("a");
  EXPECT_THAT(one.told.lines, ElementsAre("INITIAL"));
  EXPECT_THAT(other.told.lines, ElementsAre("INITIAL", "UPDATE a"));
}

}  // namespace
}  // namespace mesh
