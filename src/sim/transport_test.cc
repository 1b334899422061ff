// SPDX-License-Identifier: Apache-2.0
// What the simulated transport does beyond the interface's contract: faults, nodes, death.
#include "sim/transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace sim {
namespace {

using base::Code;
using base::Result;
using base::Task;

constexpr const char* kEcho = "/test.Test/Echo";
constexpr const char* kHang = "/test.Test/Hang";
constexpr const char* kCount = "/test.Test/Count";
constexpr const char* kEndless = "/test.Test/Endless";

// Serves the test methods until finished.
class Server final : public Program {
 public:
  Server(Network& network, Process& process, const std::string& url) : process_(process), transport_(network, process) {
    services_[kEcho] =
        rpc::UnaryHandler([this](rpc::ServerCall& call, rpc::Bytes body) { return echo(call, std::move(body)); });
    services_[kHang] = rpc::UnaryHandler([this](rpc::ServerCall& call, rpc::Bytes) { return hang(call); });
    services_[kCount] = rpc::StreamHandler(
        [](rpc::ServerCall&, rpc::Bytes body, rpc::ServerStream& stream) { return count(std::move(body), stream); });
    services_[kEndless] =
        rpc::StreamHandler([this](rpc::ServerCall&, rpc::Bytes, rpc::ServerStream& stream) { return endless(stream); });
    auto listening = transport_.listen(url, services_);
    if (!listening) ADD_FAILURE() << listening.error().message();
    if (listening) listener_ = std::move(*listening);
  }

  Task<void> finish() override { co_await listener_->finish(); }

  std::string url() const { return listener_->url(); }
  int hangs_ended = 0;
  int written = 0;
  std::shared_ptr<rpc::Link> last_link;

 private:
  Task<Result<rpc::Bytes>> echo(rpc::ServerCall& call, rpc::Bytes body) {
    last_link = call.link;
    if (const auto key = rpc::parse_inode_url(body)) {
      auto file = co_await call.link->descriptor(*key, call.deadline, call.stop);
      if (!file) co_return std::unexpected(file.error());
      call.reply_descriptors.push_back(std::move(*file));
    }
    co_return body;
  }
  Task<Result<rpc::Bytes>> hang(rpc::ServerCall& call) {
    co_await base::sleep_for(process_, hours(1000), call.stop);
    ++hangs_ended;
    co_return base::fail(Code::aborted, "hung up");
  }
  static Task<Result<void>> count(rpc::Bytes body, rpc::ServerStream& stream) {
    const int many = std::stoi(body);
    for (int i = 0; i < many; ++i) {
      if (auto sent = co_await stream.write(std::to_string(i), {}); !sent) co_return sent;
    }
    co_return Result<void>();
  }
  Task<Result<void>> endless(rpc::ServerStream& stream) {
    for (;;) {
      if (auto sent = co_await stream.write(std::string(10'000, 'x'), {}); !sent) co_return sent;
      ++written;
    }
  }

  Process& process_;
  Transport transport_;
  rpc::Services services_;
  std::unique_ptr<rpc::Listener> listener_;
};

class SimTransport : public testing::Test {
 protected:
  SimTransport() {
    network.add_node("a", "10.0.0.1");
    network.add_node("b", "10.0.0.2");
  }
  ~SimTransport() override {
    client.reset();
    world.finish();
    EXPECT_FALSE(world.violation()) << *world.violation();
    EXPECT_EQ(network.connections(), 0U);
    EXPECT_EQ(network.listeners(), 0U);
  }

  Server& serve(const std::string& node, const std::string& url) {
    server_process = &world.spawn(node, "server");
    auto program = std::make_unique<Server>(network, *server_process, url);
    Server& server = *program;
    server_process->run(std::move(program));
    return server;
  }

  // Starts a call; its outcome is set when it ends.
  std::shared_ptr<std::optional<Result<rpc::Reply>>> call(const std::string& url, const std::string& method,
                                                          const std::string& body, base::Duration timeout = seconds(60),
                                                          std::vector<rpc::Descriptor> files = {}) {
    auto outcome = std::make_shared<std::optional<Result<rpc::Reply>>>();
    auto channel = client->channel(url);
    EXPECT_TRUE(channel);
    if (channel)
      base::spawn_detached(run(*channel, method, body, client_process.now() + timeout, std::move(files), outcome));
    return outcome;
  }
  static Task<void> run(std::shared_ptr<rpc::Channel> channel, std::string method, std::string body,
                        base::TimePoint deadline, std::vector<rpc::Descriptor> files,
                        std::shared_ptr<std::optional<Result<rpc::Reply>>> outcome) {
    rpc::CallOptions options;
    options.deadline = deadline;
    options.descriptors = std::move(files);
    outcome->emplace(co_await channel->unary(std::move(method), std::move(body), std::move(options)));
  }
  Result<rpc::Reply> complete(const std::shared_ptr<std::optional<Result<rpc::Reply>>>& outcome) {
    EXPECT_TRUE(world.run_while_not([&] { return outcome->has_value(); }, hours(1)));
    return *outcome ? **outcome : base::fail(Code::unknown, "the call has not ended");
  }

  World world{42};
  Network network{world, Faults{}};
  Process& client_process = world.spawn("a", "client");
  std::unique_ptr<Transport> client = std::make_unique<Transport>(network, client_process);
  Process* server_process = nullptr;
};

Code code_of(const Result<rpc::Reply>& reply) { return reply ? Code::ok : reply.error().code(); }

TEST_F(SimTransport, CallsByAddressAndByName) {
  Server& server = serve("b", "tcp://:0");
  const auto port = server.url().substr(server.url().rfind(':'));
  EXPECT_EQ(complete(call("tcp://10.0.0.2" + port, kEcho, "one"))->body, "one");
  EXPECT_EQ(complete(call("b" + port, kEcho, "two"))->body, "two");
  EXPECT_EQ(code_of(complete(call("nowhere" + port, kEcho, "three"))), Code::unavailable);
}

TEST_F(SimTransport, UnixSocketsBelongToTheirNode) {
  serve("b", "unix:///run/s.sock");
  EXPECT_EQ(code_of(complete(call("unix:///run/s.sock", kEcho, "x"))), Code::unavailable);
  serve("a", "unix:///run/s.sock");
  EXPECT_EQ(complete(call("unix:///run/s.sock", kEcho, "x"))->body, "x");
}

TEST_F(SimTransport, SecondListenerOnALiveSocketIsRefused) {
  serve("a", "unix:///run/s.sock");
  Process& other = world.spawn("a", "other");
  Transport transport(network, other);
  const rpc::Services none;
  const auto listening = transport.listen("unix:///run/s.sock", none);
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().code(), Code::already_exists);
  world.kill(*server_process);
  EXPECT_TRUE(transport.listen("unix:///run/s.sock", none));  // a stale one is replaced
}

TEST_F(SimTransport, InodeUrlsReachTheSocketTheDescriptorNames) {
  serve("a", "unix:///run/s.sock");
  const auto socket = network.open_socket("a", "/run/s.sock");
  ASSERT_TRUE(socket);
  EXPECT_FALSE(network.open_socket("b", "/run/s.sock"));
  EXPECT_FALSE(client->channel(socket->url()));
  auto channel = client->channel(socket->url(), *socket);
  ASSERT_TRUE(channel);
  auto outcome = std::make_shared<std::optional<Result<rpc::Reply>>>();
  base::spawn_detached(run(*channel, kEcho, "by inode", base::kNoDeadline, {}, outcome));
  EXPECT_EQ(complete(outcome)->body, "by inode");
}

TEST_F(SimTransport, DescriptorsCrossUnixSocketsAlsoLate) {
  Faults late;
  late.late_descriptor = 1'000'000;
  network.set_faults(late);
  serve("a", "unix:///run/s.sock");
  const rpc::Descriptor file({4, 77}, std::make_shared<const base::UniqueFd>());
  const auto channel = client->channel("unix:///run/s.sock");  // held, or the connection closes before the file comes
  const auto reply = complete(call("unix:///run/s.sock", kEcho, file.url(), seconds(5), {file}));
  ASSERT_TRUE(reply) << reply.error().message();
  // And back, over the client's own link.
  auto got = std::make_shared<std::optional<Result<rpc::Descriptor>>>();
  base::spawn_detached([](std::shared_ptr<rpc::Link> link, base::TimePoint deadline, auto into) -> Task<void> {
    into->emplace(co_await link->descriptor({4, 77}, deadline, {}));
  }(reply->link, world.now() + seconds(1), got));
  EXPECT_TRUE(world.run_while_not([&] { return got->has_value(); }, seconds(2)));
  EXPECT_TRUE(got->value());
}

TEST_F(SimTransport, DescriptorsDoNotCrossTcp) {
  serve("b", "tcp://:5001");
  const rpc::Descriptor file({4, 77}, std::make_shared<const base::UniqueFd>());
  EXPECT_EQ(code_of(complete(call("b:5001", kEcho, file.url(), seconds(2), {file}))), Code::deadline_exceeded);
}

TEST_F(SimTransport, KilledServerBreaksItsCalls) {
  Server& server = serve("b", "tcp://:5001");
  const auto outcome = call("b:5001", kHang, "");
  world.run_for(seconds(1));
  EXPECT_EQ(server.hangs_ended, 0);
  world.kill(*server_process);
  const auto start = world.now();
  EXPECT_EQ(code_of(complete(outcome)), Code::unavailable);
  EXPECT_LT(world.now() - start, seconds(1));
  EXPECT_EQ(code_of(complete(call("b:5001", kEcho, ""))), Code::unavailable);  // refused
}

TEST_F(SimTransport, HalfOpenConnectionIsNoticedByKeepalive) {
  Faults faults;
  faults.half_open = 1'000'000;
  network.set_faults(faults);
  serve("b", "tcp://:5001");
  const auto outcome = call("b:5001", kHang, "", hours(1));
  world.run_for(seconds(1));
  world.kill(*server_process);
  world.run_for(seconds(9));
  EXPECT_FALSE(outcome->has_value());
  EXPECT_EQ(code_of(complete(outcome)), Code::unavailable);
}

TEST_F(SimTransport, KilledClientStopsItsCallsAtTheServer) {
  Server& server = serve("b", "tcp://:5001");
  const auto outcome = call("b:5001", kHang, "", hours(1));
  world.run_for(seconds(1));
  world.kill(client_process);
  world.run_for(seconds(1));
  EXPECT_EQ(server.hangs_ended, 1);
  EXPECT_EQ(code_of(complete(outcome)), Code::unavailable);  // the zombie's own view
  EXPECT_EQ(code_of(complete(call("b:5001", kEcho, ""))), Code::unavailable);
  const rpc::Services none;
  EXPECT_FALSE(client->listen("unix:///run/zombie.sock", none));
}

TEST_F(SimTransport, DeadlineEndsTheCallOnBothSides) {
  Server& server = serve("b", "tcp://:5001");
  EXPECT_EQ(code_of(complete(call("b:5001", kHang, "", seconds(1)))), Code::deadline_exceeded);
  world.run_for(seconds(1));
  EXPECT_EQ(server.hangs_ended, 1);
}

TEST_F(SimTransport, PartitionHoldsMessagesBackUntilItHeals) {
  serve("b", "tcp://:5001");
  ASSERT_TRUE(complete(call("b:5001", kEcho, "warm")));
  network.partition("a", "b");
  const auto outcome = call("b:5001", kEcho, "held");
  world.run_for(seconds(5));
  EXPECT_FALSE(outcome->has_value());
  network.heal("b", "a");
  const auto reply = complete(outcome);
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, "held");
}

TEST_F(SimTransport, LongPartitionBreaksConnectionsAndDials) {
  Server& server = serve("b", "tcp://:5001");
  const auto outcome = call("b:5001", kHang, "", hours(1));
  world.run_for(seconds(1));
  network.partition("a", "b");
  EXPECT_EQ(code_of(complete(outcome)), Code::unavailable);
  world.run_for(minutes(1));
  EXPECT_EQ(server.hangs_ended, 1);
  const auto start = world.now();
  EXPECT_EQ(code_of(complete(call("b:5001", kEcho, "x"))), Code::unavailable);
  EXPECT_GT(world.now() - start, seconds(5));
  network.heal_all();
  EXPECT_TRUE(complete(call("b:5001", kEcho, "x")));
}

TEST_F(SimTransport, ResetBreaksTheConnectionAndTheNextCallDialsAnew) {
  serve("b", "tcp://:5001");
  ASSERT_TRUE(complete(call("b:5001", kEcho, "warm")));
  Faults faults;
  faults.reset = 1'000'000;
  network.set_faults(faults);
  EXPECT_EQ(code_of(complete(call("b:5001", kEcho, "x"))), Code::unavailable);
  network.set_faults(Faults{});
  EXPECT_TRUE(complete(call("b:5001", kEcho, "x")));
}

// All messages of a stream, and what it ended with.
Task<void> read_all(std::shared_ptr<rpc::Channel> channel, std::string method, std::string body, base::StopToken stop,
                    std::vector<std::string>* messages, std::optional<Code>* ended) {
  rpc::CallOptions options;
  options.stop = stop;
  auto stream = co_await channel->stream(std::move(method), std::move(body), std::move(options));
  if (!stream) {
    *ended = stream.error().code();
    co_return;
  }
  for (;;) {
    auto message = co_await (*stream)->read();
    if (!message || !*message) {
      *ended = message ? Code::ok : message.error().code();
      co_return;
    }
    messages->push_back(**message);
  }
}

TEST_F(SimTransport, StreamKeepsItsOrderUnderRetransmissions) {
  Faults faults;
  faults.retransmit = 300'000;
  network.set_faults(faults);
  serve("b", "tcp://:5001");
  std::vector<std::string> messages;
  std::optional<Code> ended;
  base::spawn_detached(read_all(*client->channel("b:5001"), kCount, "100", {}, &messages, &ended));
  EXPECT_TRUE(world.run_while_not([&] { return ended.has_value(); }, hours(1)));
  EXPECT_EQ(ended, Code::ok);
  ASSERT_EQ(messages.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(messages[i], std::to_string(i));
}

TEST_F(SimTransport, StreamStopsWhenItsReaderDoes) {
  Server& server = serve("b", "tcp://:5001");
  std::vector<std::string> messages;
  std::optional<Code> ended;
  base::StopSource stop;
  base::spawn_detached(read_all(*client->channel("b:5001"), kEndless, "", stop.token(), &messages, &ended));
  EXPECT_TRUE(world.run_while_not([&] { return messages.size() >= 10; }, seconds(10)));
  stop.request_stop();
  EXPECT_TRUE(world.run_while_not([&] { return ended.has_value(); }, seconds(10)));
  EXPECT_EQ(ended, Code::cancelled);
  world.run_for(seconds(1));
  const int written = server.written;
  world.run_for(seconds(1));
  EXPECT_EQ(server.written, written);
}

TEST_F(SimTransport, WriterWaitsForItsReader) {
  Server& server = serve("b", "tcp://:5001");
  auto stream = std::make_shared<std::unique_ptr<rpc::ClientStream>>();
  base::spawn_detached([](std::shared_ptr<rpc::Channel> channel, auto into) -> Task<void> {
    auto opened = co_await channel->stream(kEndless, "", rpc::CallOptions());
    if (opened) *into = std::move(*opened);
  }(*client->channel("b:5001"), stream));
  world.run_for(seconds(10));
  EXPECT_EQ(server.written, 6);  // 65,535 bytes' worth, and the one that waits
  stream->reset();
}

TEST_F(SimTransport, FinishingServerEndsCallsInGoodOrder) {
  serve("b", "tcp://:5001");
  const auto outcome = call("b:5001", kHang, "", hours(1));
  world.run_for(seconds(1));
  const auto handle = server_process;
  world.terminate(*handle);
  EXPECT_EQ(code_of(complete(outcome)), Code::aborted);  // the handler's own last word
  world.run_for(seconds(1));
  EXPECT_EQ(handle->state(), Process::State::gone);
}

TEST_F(SimTransport, SameChannelWhileHeld) {
  auto first = client->channel("b:5001");
  auto second = client->channel("b:5001");
  EXPECT_EQ(first->get(), second->get());
  EXPECT_NE(first->get(), client->channel("b:5002")->get());
}

std::uint64_t hash_of_run(std::uint64_t seed) {
  World world(seed);
  auto knobs = world.random_for("faults");
  Network network(world, Faults::drawn(knobs));
  network.add_node("a", "10.0.0.1");
  network.add_node("b", "10.0.0.2");
  Process& server = world.spawn("b", "server");
  server.run(std::make_unique<Server>(network, server, "tcp://:5001"));
  Process& client = world.spawn("a", "client");
  {
    Transport transport(network, client);
    std::vector<std::string> messages;
    std::optional<Code> ended;
    base::spawn_detached(read_all(*transport.channel("b:5001"), kCount, "50", {}, &messages, &ended));
    world.run_while_not([&] { return ended.has_value(); }, hours(1));
  }
  world.finish();
  EXPECT_FALSE(world.violation());
  return world.log().hash();
}

TEST(SimRun, OneSeedOneHash) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(hash_of_run(seed), hash_of_run(seed));
  EXPECT_NE(hash_of_run(1), hash_of_run(2));
}

}  // namespace
}  // namespace sim
