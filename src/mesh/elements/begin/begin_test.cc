// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/begin/begin.h"

#include <gmock/gmock.h>

#include <deque>
#include <optional>

#include "fakes/manual_scheduler.h"

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

// The rest of the chain: records what comes, holds it at a gate while that is shut, fails when told to.
class Gate final : public Element {
 public:
  explicit Gate(base::Scheduler& scheduler) : scheduler_(scheduler) {}

  Task<Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    log.push_back("request " + request.connection().network_service());
    requests.push_back(request);
    events = call.context().events;
    states.push_back(call.context().state);
    established.push_back(call.context().established);
    co_await pass();
    if (!failures.empty()) {
      base::Error error = std::move(failures.front());
      failures.pop_front();
      log.push_back("failed");
      co_return std::unexpected(std::move(error));
    }
    log.push_back("answered " + request.connection().network_service());
    co_return std::move(*request.mutable_connection());
  }
  Task<Result<void>> close(Call&, Connection connection) override {
    log.push_back("close " + connection.network_service());
    closes.push_back(connection);
    co_await pass();
    if (close_fails) co_return base::fail(Code::unavailable, "the next hop is gone");
    co_return Result<void>();
  }

  void shut() { shut_ = true; }
  void open() {
    shut_ = false;
    for (const auto& waiter : std::exchange(waiters_, {})) waiter.set(true);
  }

  std::vector<std::string> log;
  std::vector<NetworkServiceRequest> requests;
  std::vector<Connection> closes;
  std::vector<std::weak_ptr<ConnectionState>> states;
  std::vector<bool> established;
  std::deque<base::Error> failures;
  std::shared_ptr<ConnectionEvents> events;
  bool close_fails = false;

 private:
  Task<void> pass() {
    if (!shut_) co_return;
    base::OneShot<bool> opened(scheduler_);
    waiters_.push_back(opened);
    co_await opened;
  }
  base::Scheduler& scheduler_;
  bool shut_ = false;
  std::vector<base::OneShot<bool>> waiters_;
};

struct Top final : Element {
  using Gives = Types<Identified>;
};

class BeginTest : public ::testing::Test {
 protected:
  using Answer = std::shared_ptr<std::optional<Result<Connection>>>;

  explicit BeginTest(Begin::Side side = Begin::Side::server) : begin(std::make_shared<Begin>(side, scheduler)) {
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>()).add("begin", begin).add("gate", gate);
    chain.emplace(std::move(builder).build());
  }

  static NetworkServiceRequest asking(const std::string& service, const std::string& id = "c1") {
    NetworkServiceRequest request;
    request.mutable_connection()->set_id(id);
    request.mutable_connection()->set_network_service(service);
    return request;
  }
  // Starts a request; its answer, once there.
  Answer start(NetworkServiceRequest request, base::Duration allowance = 10s) {
    auto answer = std::make_shared<std::optional<Result<Connection>>>();
    base::spawn_detached(run(std::move(request), allowance, answer));
    scheduler.run_ready();
    return answer;
  }
  Task<void> run(NetworkServiceRequest request, base::Duration allowance, Answer answer) {
    CallContext context(scheduler, scheduler.now() + allowance, stop.token());
    auto connection = co_await chain->request(context, std::move(request));
    answer->emplace(std::move(connection));
  }
  Result<Connection> request(NetworkServiceRequest asked) {
    const auto answer = start(std::move(asked));
    if (!*answer) return base::fail(Code::internal, "not answered");
    return **answer;
  }
  std::shared_ptr<std::optional<Result<void>>> start_close(const std::string& id) {
    auto answer = std::make_shared<std::optional<Result<void>>>();
    base::spawn_detached(run_close(id, answer));
    scheduler.run_ready();
    return answer;
  }
  Task<void> run_close(std::string id, std::shared_ptr<std::optional<Result<void>>> answer) {
    CallContext context(scheduler, scheduler.now() + 10s, {});
    Connection connection;
    connection.set_id(id);
    connection.set_network_service("what a close says");
    auto closed = co_await chain->close(context, std::move(connection));
    answer->emplace(std::move(closed));
  }
  Result<Connection> again(Reselect reselect) {
    const auto events = gate->events;
    return scheduler.run(events->request_again(reselect, {})).value();
  }

  fakes::ManualScheduler scheduler;
  base::StopSource stop;
  std::shared_ptr<Begin> begin;
  std::shared_ptr<Gate> gate = std::make_shared<Gate>(scheduler);
  std::optional<Chain> chain;
};

TEST_F(BeginTest, ARequestWithoutAnIdIsRefused) {
  EXPECT_EQ(request(asking("a", "")).error().code(), Code::invalid_argument);
  EXPECT_THAT(gate->log, IsEmpty());
}

TEST_F(BeginTest, RequestsOfOneConnectionRunInTheOrderTheyCame) {
  gate->shut();
  const auto first = start(asking("a"));
  const auto second = start(asking("b"));
  const auto third = start(asking("c"));
  EXPECT_THAT(gate->log, ElementsAre("request a"));
  gate->open();
  scheduler.run_ready();
  EXPECT_THAT(gate->log, ElementsAre("request a", "answered a", "request b", "answered b", "request c", "answered c"));
  EXPECT_TRUE(*third && **third);
}

TEST_F(BeginTest, OtherConnectionsDoNotWait) {
  gate->shut();
  start(asking("a", "c1"));
  start(asking("b", "c2"));
  EXPECT_THAT(gate->log, ElementsAre("request a", "request b"));
  gate->open();
  scheduler.run_ready();
}

TEST_F(BeginTest, AWaiterGivesUpAtItsDeadlineAndTheNextGetsItsTurn) {
  gate->shut();
  start(asking("a"), 60s);
  const auto waiter = start(asking("b"), 1s);
  const auto patient = start(asking("c"), 60s);
  scheduler.run_for(2s);
  ASSERT_TRUE(*waiter);
  EXPECT_EQ((*waiter)->error().code(), Code::deadline_exceeded);
  EXPECT_THAT((*waiter)->error().message(), HasSubstr("waiting for an earlier call about connection c1"));
  gate->open();
  scheduler.run_ready();
  EXPECT_TRUE(*patient && **patient);
  EXPECT_THAT(gate->log, ElementsAre("request a", "answered a", "request c", "answered c"));
}

TEST_F(BeginTest, AFirstRequestThatFailsIsForgotten) {
  gate->failures.emplace_back(Code::unavailable, "no");
  EXPECT_FALSE(request(asking("a")));
  EXPECT_EQ(begin->size(), 0U);
  EXPECT_TRUE(gate->states[0].expired());
  EXPECT_TRUE(gate->events->closed());
}

TEST_F(BeginTest, WhoWaitedForAFirstRequestThatFailedBeginsAnew) {
  gate->shut();
  gate->failures.emplace_back(Code::unavailable, "no");
  start(asking("a"));
  const auto second = start(asking("b"));
  gate->open();
  scheduler.run_ready();
  ASSERT_TRUE(*second);
  EXPECT_TRUE(**second);
  EXPECT_THAT(gate->established, ElementsAre(false, false));
  EXPECT_EQ(begin->size(), 1U);
}

TEST_F(BeginTest, AFailedRefreshLeavesTheConnectionAsItWas) {
  ASSERT_TRUE(request(asking("a")));
  gate->failures.emplace_back(Code::unavailable, "no");
  EXPECT_FALSE(request(asking("b")));
  ASSERT_THAT(begin->connections(), SizeIs(1));
  EXPECT_EQ(begin->connections()[0].network_service(), "a");
  EXPECT_THAT(gate->established, ElementsAre(false, true));
  EXPECT_FALSE(gate->states[0].expired());
}

TEST_F(BeginTest, TheAnswerSaysUp) {
  auto asked = asking("a");
  asked.mutable_connection()->set_state(connection::RESELECT_REQUESTED);
  EXPECT_EQ(request(asked)->state(), connection::UP);
}

TEST_F(BeginTest, ACloseActsOnWhatIsRemembered) {
  ASSERT_TRUE(request(asking("a")));
  EXPECT_TRUE(**start_close("c1"));
  ASSERT_THAT(gate->closes, SizeIs(1));
  EXPECT_EQ(gate->closes[0].network_service(), "a");
  EXPECT_EQ(begin->size(), 0U);
}

TEST_F(BeginTest, AFailedCloseForgetsTheConnectionAllTheSame) {
  ASSERT_TRUE(request(asking("a")));
  gate->close_fails = true;
  EXPECT_EQ((*start_close("c1"))->error().code(), Code::unavailable);
  EXPECT_EQ(begin->size(), 0U);
}

TEST_F(BeginTest, AnUnknownIdIsClosedAlready) {
  EXPECT_TRUE(**start_close("c1"));
  EXPECT_THAT(gate->log, IsEmpty());
}

TEST_F(BeginTest, ACloseWaitsForTheRequestUnderWay) {
  gate->shut();
  start(asking("a"));
  const auto closed = start_close("c1");
  EXPECT_FALSE(*closed);
  gate->open();
  scheduler.run_ready();
  EXPECT_TRUE(**closed);
  EXPECT_THAT(gate->log, ElementsAre("request a", "answered a", "close a"));
  EXPECT_EQ(begin->size(), 0U);
}

TEST_F(BeginTest, ARequestToReselectClosesFirstAndStartsWithFreshState) {
  ASSERT_TRUE(request(asking("a")));
  auto asked = asking("b");
  asked.mutable_connection()->set_state(connection::RESELECT_REQUESTED);
  ASSERT_TRUE(request(asked));
  EXPECT_THAT(gate->log, ElementsAre("request a", "answered a", "close a", "request b", "answered b"));
  EXPECT_THAT(gate->established, ElementsAre(false, false));
  EXPECT_TRUE(gate->states[0].expired());
  EXPECT_EQ(gate->requests[1].connection().state(), connection::RESELECT_REQUESTED);
}

TEST_F(BeginTest, ReselectingGoesOnWhenTheCloseFails) {
  ASSERT_TRUE(request(asking("a")));
  gate->close_fails = true;
  auto asked = asking("b");
  asked.mutable_connection()->set_state(connection::RESELECT_REQUESTED);
  EXPECT_TRUE(request(asked));
}

TEST_F(BeginTest, RequestingAgainSendsTheLastConnection) {
  ASSERT_TRUE(request(asking("a")));
  ASSERT_TRUE(again(Reselect::no));
  EXPECT_THAT(gate->log, ElementsAre("request a", "answered a", "request a", "answered a"));
  EXPECT_EQ(gate->requests[1].connection().state(), connection::UP);
}

TEST_F(BeginTest, RequestingAgainAfterCloseSaysClosed) {
  ASSERT_TRUE(request(asking("a")));
  start_close("c1");
  const auto refused = again(Reselect::no);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::cancelled);
  EXPECT_THAT(refused.error().message(), HasSubstr("closed"));
  EXPECT_TRUE(gate->events->closed());
}

TEST_F(BeginTest, SelectingAnewClosesThenAsksWithoutEndpointAndMechanism) {
  auto asked = asking("a");
  asked.mutable_connection()->set_network_service_endpoint_name("nse-1");
  asked.mutable_connection()->mutable_mechanism()->set_type("KERNEL");
  ASSERT_TRUE(request(asked));
  ASSERT_TRUE(again(Reselect::endpoint));
  EXPECT_EQ(gate->closes[0].network_service_endpoint_name(), "nse-1");
  const Connection& sent = gate->requests[1].connection();
  EXPECT_EQ(sent.network_service_endpoint_name(), "");
  EXPECT_FALSE(sent.has_mechanism());
  EXPECT_EQ(sent.state(), connection::RESELECT_REQUESTED);
}

TEST_F(BeginTest, AConnectionThatCouldNotBeSelectedAnewIsForgottenByClose) {
  ASSERT_TRUE(request(asking("a")));
  gate->failures.emplace_back(Code::unavailable, "no endpoint");
  EXPECT_FALSE(again(Reselect::endpoint));
  EXPECT_EQ(begin->size(), 1U);  // whoever heals tries again
  EXPECT_TRUE(**start_close("c1"));
  EXPECT_EQ(begin->size(), 0U);
  EXPECT_TRUE(gate->events->closed());
  EXPECT_THAT(gate->closes, SizeIs(1));  // by the reselection: nothing was left to close
}

TEST_F(BeginTest, AnEventClosesTheConnection) {
  ASSERT_TRUE(request(asking("a")));
  gate->events->close_soon();
  scheduler.run_ready();
  EXPECT_THAT(gate->closes, SizeIs(1));
  EXPECT_EQ(begin->size(), 0U);
}

TEST_F(BeginTest, ClosingAllClosesEachOnceAllAtOnce) {
  ASSERT_TRUE(request(asking("a", "c1")));
  ASSERT_TRUE(request(asking("b", "c2")));
  gate->shut();
  base::spawn_detached(begin->close_all(scheduler.now() + 5s));
  scheduler.run_ready();
  EXPECT_THAT(gate->closes, SizeIs(2));
  gate->open();
  scheduler.run_ready();
  EXPECT_EQ(begin->size(), 0U);
}

class ClientBegin : public BeginTest {
 protected:
  ClientBegin() : BeginTest(Begin::Side::client) {}
};

TEST_F(ClientBegin, ARepeatedRequestKeepsWhatTheMeshAnswered) {
  auto asked = asking("a");
  (*asked.mutable_connection()->mutable_labels())["app"] = "one";
  auto answered = request(asked);
  ASSERT_TRUE(answered);
  auto changed = asking("other");
  *changed.mutable_connection()->mutable_context() = answered->context();
  (*changed.mutable_connection()->mutable_labels())["app"] = "two";
  ASSERT_TRUE(request(changed));
  EXPECT_EQ(gate->requests[1].connection().network_service(), "a");
  EXPECT_EQ(gate->requests[1].connection().labels().at("app"), "one");
}

TEST_F(ClientBegin, ARepeatedRequestMayChangeEndpointAndContext) {
  ASSERT_TRUE(request(asking("a")));
  auto changed = asking("a");
  changed.mutable_connection()->set_network_service_endpoint_name("nse-2");
  changed.mutable_connection()->mutable_context()->set_mtu(1400);
  ASSERT_TRUE(request(changed));
  EXPECT_EQ(gate->requests[1].connection().network_service_endpoint_name(), "nse-2");
  EXPECT_EQ(gate->requests[1].connection().context().mtu(), 1400U);
}

}  // namespace
}  // namespace mesh
