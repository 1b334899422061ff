// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/connect/connect.h"

#include <gmock/gmock.h>
#include <google/protobuf/empty.pb.h>

#include "fakes/chain_bench.h"
#include "fakes/loopback_network.h"
#include "mesh/elements/descriptors/held_descriptors.h"
#include "rpc/typed.h"

namespace mesh {
namespace {

using base::Code;
using base::Result;
using base::Task;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using namespace std::chrono_literals;

constexpr rpc::InodeKey kNetns{4, 100};

// A process further down the path. Answers with what it was asked, changed as the test says.
class Peer {
 public:
  Peer(fakes::LoopbackNetwork& network, std::string url, std::vector<std::string>& calls)
      : url_(std::move(url)), calls_(calls), transport_(network.process(nullptr, known_as(url_))) {
    services_[method::kRequest] = rpc::unary_handler<NetworkServiceRequest, Connection>(
        [this](rpc::ServerCall& call, NetworkServiceRequest request) { return answer(call, std::move(request)); });
    services_[method::kClose] = rpc::unary_handler<Connection, google::protobuf::Empty>(
        [this](rpc::ServerCall& call, Connection connection) { return close(call, std::move(connection)); });
    listener_ = transport_->listen(url_, services_).value();
  }

  void vanish() { listener_ = nullptr; }

  std::function<void(Connection&)> change;
  std::optional<base::Error> refusal;
  std::vector<rpc::Descriptor> brings;
  std::optional<rpc::InodeKey> expects;  // a file that has to come with a call
  int files = 0;                         // that came

 private:
  static rpc::Peer known_as(const std::string& url) {
    rpc::Peer peer;
    peer.id = "the process at " + url;
    return peer;
  }
  Task<void> look(rpc::ServerCall& call) {
    if (!expects) co_return;
    auto file = co_await call.link->descriptor(*expects, call.deadline, call.stop);
    if (file) ++files;
  }
  Task<Result<Connection>> answer(rpc::ServerCall& call, NetworkServiceRequest request) {
    calls_.push_back("request " + request.connection().id() + " at " + url_);
    co_await look(call);
    if (refusal) co_return std::unexpected(*refusal);
    if (change) change(*request.mutable_connection());
    call.reply_descriptors = brings;
    co_return std::move(*request.mutable_connection());
  }
  Task<Result<google::protobuf::Empty>> close(rpc::ServerCall& call, Connection connection) {
    calls_.push_back("close " + connection.id() + " at " + url_);
    EXPECT_LT(connection.path().index(), connection.path().path_segments_size());  // or nobody would take it
    co_await look(call);
    if (refusal) co_return std::unexpected(*refusal);
    co_return google::protobuf::Empty();
  }

  const std::string url_;
  std::vector<std::string>& calls_;
  std::unique_ptr<rpc::Transport> transport_;
  rpc::Services services_;
  std::unique_ptr<rpc::Listener> listener_;
};

// Sets the next hop, and what the connection has brought.
class Above final : public Element {
 public:
  using Gives = Types<Identified, NextHop>;
  Task<Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    state = call.context().state;
    state->get<NextHop>().url = hop;
    for (const rpc::Descriptor& file : brought) state->get<HeldDescriptors>().hold(file);
    return call.next(std::move(request));
  }
  std::string hop = "unix:///one";
  std::vector<rpc::Descriptor> brought;
  std::shared_ptr<ConnectionState> state;
};

struct Top final : Element {
  using Gives = Types<Identified, NextHop>;
};

class ConnectTest : public ::testing::Test {
 protected:
  ConnectTest() {
    ChainBuilder builder;
    builder.add("top", std::make_shared<Top>())
        .add("begin", std::make_shared<Begin>(Begin::Side::server, scheduler))
        .add("above", above)
        .add("connect", std::make_shared<Connect>(*transport));
    chain.emplace(std::move(builder).build());
  }

  // The second process of a path of three.
  static Connection connection() {
    Connection asked;
    asked.set_id("c1");
    asked.set_network_service("icmp-responder");
    asked.mutable_path()->set_index(1);
    for (const char* id : {"client-1", "c1"}) asked.mutable_path()->add_path_segments()->set_id(id);
    return asked;
  }
  static Mechanism kernel(rpc::InodeKey netns) {
    Mechanism mechanism;
    mechanism.set_type(std::string(kKernel));
    (*mechanism.mutable_parameters())[parameter::kInodeUrl] = rpc::inode_url(netns);
    return mechanism;
  }
  Result<Connection> request(Connection asked = connection()) {
    NetworkServiceRequest asking;
    *asking.mutable_connection() = std::move(asked);
    CallContext context(scheduler, scheduler.now() + 15s, {});
    return scheduler.run(chain->request(context, std::move(asking))).value();
  }
  Result<void> close() {
    CallContext context(scheduler, scheduler.now() + 15s, {});
    return scheduler.run(chain->close(context, connection())).value();
  }

  fakes::ManualScheduler scheduler;
  fakes::LoopbackNetwork network{scheduler};
  std::vector<std::string> calls;  // that reached anybody
  Peer one{network, "unix:///one", calls};
  Peer two{network, "unix:///two", calls};
  std::unique_ptr<rpc::Transport> transport = network.process();
  std::shared_ptr<Above> above = std::make_shared<Above>();
  std::optional<Chain> chain;
};

TEST_F(ConnectTest, WithoutANextHopNobodyIsAsked) {
  above->hop = "";
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("connection c1 to service icmp-responder has no next hop"));
}

TEST_F(ConnectTest, AHopThatCannotBeReachedIsNamed) {
  above->hop = "unix:///nowhere";
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::unavailable);
  EXPECT_THAT(refused.error().message(), HasSubstr("unix:///nowhere"));
}

TEST_F(ConnectTest, RemembersWhoAnswered) {
  ASSERT_TRUE(request());
  EXPECT_EQ(above->state->get<AnsweredBy>().peer.id, "the process at unix:///one");
}

TEST_F(ConnectTest, AConnectionThatMovesLeavesItsOldHopFirst) {
  ASSERT_TRUE(request());
  above->hop = "unix:///two";
  ASSERT_TRUE(request());
  ASSERT_TRUE(close());
  EXPECT_THAT(calls, ElementsAre("request c1 at unix:///one", "close c1 at unix:///one", "request c1 at unix:///two",
                                 "close c1 at unix:///two"));
}

TEST_F(ConnectTest, AnOldHopThatVanishedDoesNotHoldAConnectionBack) {
  ASSERT_TRUE(request());
  one.vanish();
  above->hop = "unix:///two";
  EXPECT_TRUE(request());
}

TEST_F(ConnectTest, AHopThatRefusesToCloseIsReported) {
  ASSERT_TRUE(request());
  one.refusal.emplace(Code::permission_denied, "not yours");
  const auto closed = close();
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().message(), "not yours");
}

TEST_F(ConnectTest, WhatTheMechanismNamesGoesAlongBothWays) {
  above->brought.push_back(rpc::Descriptor::simulated(kNetns));
  one.expects = kNetns;
  Connection asked = connection();
  *asked.mutable_mechanism() = kernel(kNetns);
  ASSERT_TRUE(request(asked));
  EXPECT_EQ(one.files, 1);
  above->brought.clear();  // a refresh names what is held
  network.break_connections();
  ASSERT_TRUE(request(asked));
  EXPECT_EQ(one.files, 2);
  network.break_connections();
  ASSERT_TRUE(close());
  EXPECT_EQ(one.files, 3);
}

TEST_F(ConnectTest, TheAnswersFileIsHeldWithTheConnection) {
  one.change = [](Connection& answer) { *answer.mutable_mechanism() = kernel(kNetns); };
  one.brings.push_back(rpc::Descriptor::simulated(kNetns));
  ASSERT_TRUE(request());
  EXPECT_TRUE(above->state->get<HeldDescriptors>().find(kNetns));
}

TEST_F(ConnectTest, AnAnswerWhoseFileDoesNotComeIsUndone) {
  one.change = [](Connection& answer) { *answer.mutable_mechanism() = kernel(kNetns); };
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("the answer of unix:///one: inode://4/100: it did not pass"));
  EXPECT_THAT(calls, ElementsAre("request c1 at unix:///one", "close c1 at unix:///one"));
}

TEST_F(ConnectTest, ARefreshWhoseFileDoesNotComeIsNotClosed) {
  ASSERT_TRUE(request());
  one.change = [](Connection& answer) { *answer.mutable_mechanism() = kernel(kNetns); };
  EXPECT_FALSE(request());
  EXPECT_THAT(calls, ElementsAre("request c1 at unix:///one", "request c1 at unix:///one"));
}

TEST_F(ConnectTest, AFileThatIsNoNetworkNamespaceIsRefused) {
  const auto file = rpc::Descriptor::open("/dev/null").value();
  one.change = [&](Connection& answer) { *answer.mutable_mechanism() = kernel(file.key()); };
  one.brings.push_back(file);
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("is no namespace"));
  EXPECT_FALSE(above->state->get<HeldDescriptors>().find(file.key()));
  EXPECT_THAT(calls, SizeIs(2));
}

TEST_F(ConnectTest, APeerHasNoSayInThisHopsIdAndPlace) {
  one.change = [](Connection& answer) {
    answer.set_id("of-another");
    answer.mutable_path()->set_index(7);
  };
  const auto answer = request();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->id(), "c1");
  EXPECT_EQ(answer->path().index(), 1U);
}

TEST_F(ConnectTest, AnAnswerThatLostThisHopsSegmentIsUndone) {
  const std::vector<std::function<void(Connection&)>> lies{
      [](Connection& answer) { answer.clear_path(); },
      [](Connection& answer) { answer.mutable_path()->mutable_path_segments()->RemoveLast(); },
      [](Connection& answer) { answer.mutable_path()->mutable_path_segments(1)->set_id("of-another"); }};
  for (const auto& lie : lies) {
    calls.clear();
    one.change = lie;
    const auto refused = request();
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr("the answer of unix:///one: its path has lost segment 1"));
    EXPECT_THAT(calls, ElementsAre("request c1 at unix:///one", "close c1 at unix:///one"));
  }
}

}  // namespace
}  // namespace mesh
