// SPDX-License-Identifier: Apache-2.0
// The HTTP/2 transport under the suite every transport passes, over unix sockets and TCP.
#include "rpc/http2/transport.h"

#include "rpc/http2/test_world.h"
#include "rpc/transport_suite.h"

namespace rpc::testing {
namespace {

class SocketWorld : public TransportWorld {
 public:
  explicit SocketWorld(bool unix_sockets) : unix_sockets_(unix_sockets) {}

  base::Scheduler& scheduler() override { return loop_; }
  Transport& client() override { return client_; }
  Transport& server() override { return server_; }
  std::string fresh_url() override {
    if (unix_sockets_) return fmt::format("unix://{}/sub/{}.sock", directory_.path(), next_++);
    // A port that was free a moment ago.
    Services none;
    return (*server_.listen("tcp://127.0.0.1:0", none))->url();
  }
  Descriptor fresh_file() override { return memory_file(); }
  void run(const std::function<bool()>& done, base::Duration at_most) override { run_until(loop_, done, at_most); }

 private:
  const bool unix_sockets_;
  ScratchDirectory directory_;
  base::EventLoop loop_;
  http2::Transport client_{loop_};
  http2::Transport server_{loop_};
  int next_ = 0;
};

const World kUnix{"unix_socket", [] { return std::make_unique<SocketWorld>(true); }};
const World kTcp{"tcp", [] { return std::make_unique<SocketWorld>(false); }};
constexpr auto kName = [](const auto& world) { return world.param.name; };

INSTANTIATE_TEST_SUITE_P(Http2, TransportSuite, ::testing::Values(kUnix, kTcp), kName);
INSTANTIATE_TEST_SUITE_P(Http2, TransportFileSuite, ::testing::Values(kUnix), kName);

// Plaintext whose connections go out of date.
class Dated final : public http2::Security {
 public:
  base::Task<base::Result<std::unique_ptr<http2::ByteStream>>> secure(std::unique_ptr<http2::ByteStream> socket,
                                                                      http2::Side, base::TimePoint) override {
    co_return std::move(socket);
  }
  std::uint64_t epoch() const override { return now; }
  std::uint64_t now = 0;
};

// A stream that stays, as those that follow a connection do.
base::Task<base::Result<void>> stay(base::Scheduler& scheduler, ServerCall& call) {
  co_await base::sleep_until(scheduler, base::kNoDeadline, call.stop);
  co_return base::Result<void>();
}

base::Task<bool> end(Listener& listener) {
  co_await listener.finish();
  co_return true;
}

TEST(Http2TransportTest, StreamsThatStayDoNotKeepOthersWaiting) {
  ScratchDirectory directory;
  base::EventLoop loop;
  http2::Limits few;
  few.max_streams = 4;
  http2::Transport server(loop, few);
  http2::Transport client(loop);
  Services services;
  services["/t.T/Stay"] = StreamHandler([&loop](ServerCall& call, Bytes, ServerStream&) { return stay(loop, call); });
  services["/t.T/Echo"] =
      UnaryHandler([](ServerCall&, Bytes request) -> base::Task<base::Result<Bytes>> { co_return std::move(request); });
  const std::string url = fmt::format("unix://{}/full.sock", directory.path());
  auto listener = server.listen(url, services);
  ASSERT_TRUE(listener);
  auto channel = *client.channel(url);
  std::vector<std::unique_ptr<ClientStream>> streams;
  for (int i = 0; i < 20; ++i) {
    auto stream = wait(loop, channel->stream("/t.T/Stay", "", {}));
    ASSERT_TRUE(stream) << stream.error().message();
    streams.push_back(std::move(*stream));
    CallOptions options;
    options.deadline = loop.now() + std::chrono::seconds(10);
    const auto reply = wait(loop, channel->unary("/t.T/Echo", "hello", std::move(options)));
    ASSERT_TRUE(reply) << i << " streams stay: " << reply.error().message();
  }

  EXPECT_TRUE(wait(loop, end(**listener)));
}

class EpochTest : public ::testing::Test {
 protected:
  EpochTest() {
    services_["/t.T/Stay"] =
        StreamHandler([this](ServerCall& call, Bytes, ServerStream&) { return stay(loop_, call); });
    services_["/t.T/Where"] = UnaryHandler([](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
      co_return fmt::format("{}", call.link->id());
    });
    listener_ = *server_.listen(fmt::format("unix://{}/epoch.sock", directory_.path()), services_);
    channel_ = *client_.channel(listener_->url());
  }
  ~EpochTest() override {
    stream_.reset();
    wait(loop_, end(*listener_));
  }
  // The server's number for the connection that a call takes.
  std::string where() {
    CallOptions options;
    options.deadline = loop_.now() + std::chrono::seconds(10);
    const auto reply = wait(loop_, channel_->unary("/t.T/Where", "", std::move(options)));
    EXPECT_TRUE(reply) << reply.error().message();
    return reply ? reply->body : "";
  }
  void open_stream() { stream_ = *wait(loop_, channel_->stream("/t.T/Stay", "", {})); }
  bool stream_lives() {
    const auto ended = begin(stream_->read());
    loop_.run_for(std::chrono::milliseconds(50));
    return !ended->has_value();
  }

  ScratchDirectory directory_;
  base::EventLoop loop_;
  http2::NoCredentials tokens_;
  Dated client_security_;
  Dated server_security_;
  http2::Transport client_{loop_, tokens_, client_security_};
  http2::Transport server_{loop_, tokens_, server_security_};
  Services services_;
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<Channel> channel_;
  std::unique_ptr<ClientStream> stream_;
};

TEST_F(EpochTest, NewCallsOfAClientLeaveAnOutdatedConnection) {
  open_stream();
  const auto before = where();
  EXPECT_EQ(where(), before);
  ++client_security_.now;
  const auto after = where();
  EXPECT_NE(after, before);
  EXPECT_EQ(where(), after);
  EXPECT_TRUE(stream_lives());
}

TEST_F(EpochTest, AServerSendsItsClientsToNewConnections) {
  open_stream();
  const auto before = where();
  ++server_security_.now;
  EXPECT_EQ(where(), before);  // this call tells
  const auto after = where();
  EXPECT_NE(after, before);
  EXPECT_EQ(where(), after);
  EXPECT_TRUE(stream_lives());
}

}  // namespace
}  // namespace rpc::testing
