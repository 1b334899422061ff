// SPDX-License-Identifier: Apache-2.0
// Peers that break rules, hang, flood or die; and where a listener listens. Everybody else must not notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "rpc/http2/raw_peer.h"
#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"

namespace rpc::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

http2::Limits impatient() {
  http2::Limits limits;
  limits.preface_timeout = 200ms;
  limits.ping_interval = 50ms;
  limits.ping_timeout = 100ms;
  return limits;
}

class HostileTest : public ::testing::Test {
 protected:
  HostileTest() {
    services_["/t.T/Echo"] = UnaryHandler(
        [](ServerCall&, Bytes request) -> base::Task<base::Result<Bytes>> { co_return std::move(request); });
    services_["/t.T/Wait"] = UnaryHandler([this](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
      ++running_;
      most_running_ = std::max(most_running_, running_);
      base::OneShot<bool> done(loop_);
      auto registration = call.stop.on_stop([done] { done.set(true); });
      co_await done;
      --running_;
      co_return base::fail(base::Code::aborted, "stopped");
    });
    listener_ = std::move(*transport_.listen("unix://" + path_, services_));
  }
  ~HostileTest() override {
    listener_.reset();
    run_until(loop_, [&] { return running_ == 0; }, 5s);
  }

  base::Result<Reply> call(const std::shared_ptr<Channel>& channel, const std::string& method = "/t.T/Echo",
                           base::Duration time = 10s) {
    CallOptions options;
    options.deadline = loop_.now() + time;
    return wait(loop_, channel->unary(method, "hello", std::move(options)));
  }
  // A well-behaved client is served.
  ::testing::AssertionResult serves() {
    const auto reply = call(*transport_.channel("unix://" + path_));
    if (!reply) return ::testing::AssertionFailure() << reply.error().message();
    return ::testing::AssertionSuccess();
  }
  void run(RawPeer& peer, const std::function<bool()>& done, base::Duration at_most = 5s) {
    run_until(
        loop_,
        [&] {
          peer.pump();
          return done() || peer.closed;
        },
        at_most);
  }

  base::EventLoop loop_;
  ScratchDirectory directory_;
  const std::string path_ = directory_.path() + "/s";
  http2::Transport transport_{loop_, impatient()};
  Services services_;
  std::unique_ptr<Listener> listener_;
  int running_ = 0;
  int most_running_ = 0;
};

TEST_F(HostileTest, GarbageInsteadOfThePrefaceClosesTheConnection) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  ASSERT_TRUE(send_with_files(peer.fd(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n", {}));
  run_until(
      loop_,
      [&] {
        char byte;
        return ::recv(peer.fd(), &byte, 1, MSG_DONTWAIT) == 0;
      },
      150ms);
  peer.pump();
  EXPECT_TRUE(peer.closed);
  EXPECT_TRUE(serves());
}

TEST_F(HostileTest, SilentConnectionIsDropped) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto started = loop_.now();
  run_until(
      loop_,
      [&] {
        char bytes[100];
        return ::recv(peer.fd(), bytes, sizeof bytes, MSG_DONTWAIT) == 0;
      },
      5s);
  EXPECT_GE(loop_.now() - started, 150ms);
  EXPECT_LT(loop_.now() - started, 3s);
  EXPECT_TRUE(serves());
}

TEST_F(HostileTest, ConnectionThatTricklesItsPrefaceIsDropped) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto bytes = peer.take_output();
  std::size_t sent = 0;
  bool closed = false;
  run_until(
      loop_,
      [&] {
        loop_.run_for(20ms);
        closed = ::send(peer.fd(), bytes.data() + sent % bytes.size(), 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0;
        return closed || ++sent == 24;
      },
      5s);
  EXPECT_TRUE(closed);
}

TEST_F(HostileTest, OversizedFrameEndsTheConnection) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  run(peer, [&] {
    return !peer.headers.empty() ||
           nghttp2_session_get_remote_settings(peer.session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) ==
               http2::Limits().max_streams;
  });
  std::string frame("\xff\xff\xff\0\0\0\0\0\1", 9);
  ASSERT_TRUE(send_with_files(peer.fd(), frame + std::string(20000, 'x'), {}));
  run(peer, [&] { return peer.closed; });
  EXPECT_TRUE(peer.goodbye);
  EXPECT_TRUE(peer.closed);
  EXPECT_TRUE(serves());
}

TEST_F(HostileTest, TooManyHeadersAreAnsweredNotStored) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  RawPeer::Headers many;
  for (int i = 0; i < 2000; ++i) many.emplace_back("f", "x");  // 34 bytes each, by RFC 9113's count
  const auto id = peer.call("/t.T/Echo", "x", many);
  run(peer, [&] { return peer.ended.contains(id); });
  EXPECT_EQ(peer.status(id), "8");
  const auto next = peer.call("/t.T/Echo", "x");
  run(peer, [&] { return peer.ended.contains(next); });
  EXPECT_EQ(peer.status(next), "0");
}

TEST_F(HostileTest, CallsThatAreNotGrpcAreRefusedInHttp) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const RawPeer::Headers get{{":method", "GET"}, {":scheme", "http"}, {":path", "/t.T/Echo"}, {":authority", "x"}};
  std::vector<nghttp2_nv> pairs;
  for (const auto& [name, value] : get) {
    pairs.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                     reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), 0});
  }
  const auto id = nghttp2_submit_request(peer.session(), nullptr, pairs.data(), pairs.size(), nullptr, nullptr);
  run(peer, [&] { return peer.ended.contains(id); });
  EXPECT_EQ(peer.headers[id][":status"], "405");
}

TEST_F(HostileTest, InvalidTimeoutIsInvalidArgument) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto id = peer.call("/t.T/Echo", "x", {{"grpc-timeout", "soon"}});
  run(peer, [&] { return peer.ended.contains(id); });
  EXPECT_EQ(peer.status(id), "3");
}

TEST_F(HostileTest, CutRequestIsInternal) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  const auto id = peer.call("/t.T/Wait", std::string(100, 'x'));
  auto bytes = peer.take_output();
  // Says 200 bytes, brings 100.
  const auto prefix = bytes.find(std::string("\0\0\0\0\x64", 5));
  ASSERT_NE(prefix, std::string::npos);
  bytes[prefix + 4] = static_cast<char>(200);
  ASSERT_TRUE(send_with_files(peer.fd(), bytes, {}));
  run(peer, [&] { return peer.ended.contains(id); });
  EXPECT_EQ(peer.status(id), "13");
  EXPECT_EQ(most_running_, 0);
}

// As many as a node's clients that connect and close all the time cancel in some seconds.
TEST_F(HostileTest, CallsAreCancelledWithoutPunishment) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  for (int i = 0; i < 5000; ++i) {
    const auto id = peer.call("/t.T/Wait", "x");
    peer.pump();
    nghttp2_submit_rst_stream(peer.session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    peer.pump();
    if (i % 10 == 0) run(peer, [&] { return running_ == 0; });
  }
  EXPECT_FALSE(peer.goodbye || peer.closed);
  const auto last = peer.call("/t.T/Echo", "x");
  run(peer, [&] { return peer.ended.contains(last); });
  EXPECT_EQ(peer.status(last), "0");
}

TEST_F(HostileTest, ResetFloodIsStopped) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  run(peer, [&] {
    return nghttp2_session_get_remote_settings(peer.session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) ==
           http2::Limits().max_streams;
  });
  for (int i = 0; i < 40'000 && !peer.closed && !peer.goodbye; ++i) {
    const auto id = peer.call("/t.T/Wait", "x");
    peer.pump();
    nghttp2_submit_rst_stream(peer.session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    peer.pump();
    if (i % 10 == 0) loop_.run_for(1ms);
  }
  run(peer, [&] { return peer.closed; });
  EXPECT_TRUE(peer.goodbye || peer.closed);
  EXPECT_LE(most_running_, 1000);
  run_until(loop_, [&] { return running_ == 0; }, 5s);
  EXPECT_EQ(running_, 0);
  EXPECT_TRUE(serves());
}

// A manager's channel to its forwarder carries a monitor stream for each of the node's connections.
TEST_F(HostileTest, ThousandsOfCallsStayOpenOnOneConnection) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  run(peer, [&] {
    return nghttp2_session_get_remote_settings(peer.session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) ==
           http2::Limits().max_streams;
  });
  for (int i = 0; i < 3000; ++i) {
    peer.call("/t.T/Wait", "x");
    peer.pump();
    if (i % 10 == 0) loop_.run_for(1ms);
  }
  run(peer, [&] { return running_ == 3000; });
  EXPECT_EQ(running_, 3000);
  EXPECT_TRUE(serves());
}

TEST_F(HostileTest, PingFloodOfAPeerThatDoesNotReadIsStopped) {
  const auto socket = connect_unix(path_);
  RawPeer greeter(base::UniqueFd(::dup(socket.get())), http2::Side::client);
  ASSERT_TRUE(send_with_files(socket.get(), greeter.take_output(), {}));
  std::string pings;
  for (int i = 0; i < 1000; ++i) pings += std::string("\0\0\x8\6\0\0\0\0\0abcdefgh", 17);
  bool closed = false;
  run_until(
      loop_,
      [&] {
        closed = ::send(socket.get(), pings.data(), pings.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN;
        return closed;
      },
      10s);
  EXPECT_TRUE(closed);
  EXPECT_TRUE(serves());
}

TEST_F(HostileTest, PingsAreAnswered) {
  RawPeer peer(connect_unix(path_), http2::Side::client);
  bool answered = false;
  peer.on_frame = [&](const nghttp2_frame& frame) {
    answered |= frame.hd.type == NGHTTP2_PING && (frame.hd.flags & NGHTTP2_FLAG_ACK) != 0;
  };
  nghttp2_submit_ping(peer.session(), NGHTTP2_FLAG_NONE, nullptr);
  run(peer, [&] { return answered; });
  EXPECT_TRUE(answered);
}

TEST_F(HostileTest, ClientThatDiesStopsItsHandlers) {
  {
    RawPeer peer(connect_unix(path_), http2::Side::client);
    for (int i = 0; i < 5; ++i) peer.call("/t.T/Wait", "x");
    run(peer, [&] { return running_ == 5; });
    ASSERT_EQ(running_, 5);
  }
  run_until(loop_, [&] { return running_ == 0; }, 5s);
  EXPECT_EQ(running_, 0);
}

TEST_F(HostileTest, StormOfConnectionsLeavesNothingOpen) {
  ASSERT_TRUE(serves());
  run_until(loop_, [] { return false; }, 20ms);
  const auto before = open_files();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::unique_ptr<RawPeer>> peers;
    for (int i = 0; i < 50; ++i) {
      peers.push_back(std::make_unique<RawPeer>(connect_unix(path_), http2::Side::client));
      const auto file = memory_file();
      const int fd = file.fd();
      peers.back()->call(i % 2 == 0 ? "/t.T/Wait" : "/t.T/Echo", "x");
      auto bytes = peers.back()->take_output();
      bytes.resize(bytes.size() * static_cast<std::size_t>(i) / 49);  // some stop half-way
      if (!bytes.empty()) send_with_files(peers.back()->fd(), bytes, {&fd, 1});
      loop_.run_for(1ms);
    }
  }
  run_until(loop_, [&] { return open_files() == before && running_ == 0; }, 5s);
  EXPECT_EQ(open_files(), before);
  EXPECT_EQ(running_, 0);
  EXPECT_TRUE(serves());
}

TEST_F(HostileTest, ConnectionPerCallLeavesNothingOpen) {
  ASSERT_TRUE(serves());
  run_until(loop_, [] { return false; }, 20ms);
  const auto before = open_files();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(serves()) << i;  // the channel is dropped after each
  run_until(loop_, [&] { return open_files() == before; }, 5s);
  EXPECT_EQ(open_files(), before);
}

// Our client against servers that misbehave; the test accepts and answers by hand.
class HostileServerTest : public HostileTest {
 protected:
  HostileServerTest() : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const auto address = http2::unix_address(directory_.path() + "/bad");
    ::bind(socket_.get(), address.get(), address.length);
    ::listen(socket_.get(), 10);
    channel_ = *transport_.channel("unix://" + directory_.path() + "/bad");
  }

  // Makes a call while `serve` answers each request's HEADERS.
  base::Result<Reply> call_served(const std::function<void(RawPeer&, std::int32_t)>& serve, base::Duration time = 5s) {
    CallOptions options;
    options.deadline = loop_.now() + time;
    const auto reply = begin(channel_->unary("/t.T/Echo", "hello", std::move(options)));
    run_until(
        loop_,
        [&] {
          if (base::UniqueFd accepted(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
              accepted) {
            peers_.push_back(std::make_unique<RawPeer>(std::move(accepted), http2::Side::server));
            peers_.back()->on_frame = [this, serve, peer = peers_.back().get()](const nghttp2_frame& frame) {
              if (frame.hd.type != NGHTTP2_HEADERS) return;
              ++requests_;
              serve(*peer, frame.hd.stream_id);
            };
          }
          for (const auto& peer : peers_) peer->pump();
          return reply->has_value();
        },
        10s);
    return wait(loop_, reply);
  }

  base::UniqueFd socket_;
  std::shared_ptr<Channel> channel_;
  std::vector<std::unique_ptr<RawPeer>> peers_;
  int requests_ = 0;
};

TEST_F(HostileServerTest, HttpErrorBecomesAStatus) {
  const auto busy = call_served([](RawPeer& peer, std::int32_t id) { peer.answer(id, {{":status", "503"}}); });
  EXPECT_EQ(busy.error().code(), base::Code::unavailable);
}

TEST_F(HostileServerTest, MissingStatusIsAnError) {
  const auto reply = call_served([](RawPeer& peer, std::int32_t id) {
    peer.answer(id, {{":status", "200"}, {"content-type", "application/grpc"}});
  });
  EXPECT_EQ(reply.error().code(), base::Code::internal);
}

TEST_F(HostileServerTest, OkWithoutAMessageIsAnError) {
  const auto reply = call_served([](RawPeer& peer, std::int32_t id) {
    peer.answer(id, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "0"}});
  });
  EXPECT_EQ(reply.error().code(), base::Code::internal);
}

TEST_F(HostileServerTest, AnswerThatIsNotGrpcIsUnknown) {
  const auto reply = call_served(
      [](RawPeer& peer, std::int32_t id) { peer.answer(id, {{":status", "200"}, {"content-type", "text/html"}}); });
  EXPECT_EQ(reply.error().code(), base::Code::unknown);
}

TEST_F(HostileServerTest, ResetIsTranslated) {
  const auto reply = call_served([](RawPeer& peer, std::int32_t id) {
    nghttp2_submit_rst_stream(peer.session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_ENHANCE_YOUR_CALM);
  });
  EXPECT_EQ(reply.error().code(), base::Code::resource_exhausted);
}

TEST_F(HostileServerTest, RefusedCallIsSentAgainButNotForEver) {
  const auto reply = call_served([](RawPeer& peer, std::int32_t id) {
    nghttp2_submit_rst_stream(peer.session(), NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
  });
  EXPECT_EQ(reply.error().code(), base::Code::unavailable);
  EXPECT_EQ(requests_, 3);
}

TEST_F(HostileServerTest, CallThatAGoodbyeCutOffIsSentOnANewConnection) {
  const auto reply = call_served([this](RawPeer& peer, std::int32_t id) {
    if (requests_ == 1) {
      nghttp2_submit_goaway(peer.session(), NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, nullptr, 0);
    } else {
      peer.answer(id, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "5"}});
    }
  });
  EXPECT_EQ(reply.error().code(), base::Code::not_found);
  EXPECT_EQ(peers_.size(), 2U);
}

TEST_F(HostileServerTest, SilentServerIsNoticedByPings) {
  const auto started = loop_.now();
  CallOptions options;  // without a deadline
  const auto reply = wait(loop_, channel_->unary("/t.T/Echo", "hello", std::move(options)));
  EXPECT_EQ(reply.error().code(), base::Code::unavailable);
  EXPECT_THAT(reply.error().message(), HasSubstr("ping"));
  EXPECT_LT(loop_.now() - started, 5s);
}

TEST_F(HostileServerTest, ServerThatDiesIsUnavailable) {
  const auto reply = call_served([](RawPeer& peer, std::int32_t) { ::shutdown(peer.fd(), SHUT_RDWR); });
  EXPECT_EQ(reply.error().code(), base::Code::unavailable);
}

TEST_F(HostileServerTest, GarbageIsUnavailable) {
  const auto reply = call_served(
      [](RawPeer& peer, std::int32_t) { send_with_files(peer.fd(), "HTTP/1.1 400 Bad Request\r\n\r\n", {}); });
  EXPECT_EQ(reply.error().code(), base::Code::unavailable);
}

// Where a listener listens and a client finds it.
class AddressTest : public HostileTest {};

TEST_F(AddressTest, UnixSocketIsOpenToAllAndGoesWithItsListener) {
  struct stat status = {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0777U);
  listener_.reset();
  EXPECT_NE(::stat(path_.c_str(), &status), 0);
}

TEST_F(AddressTest, LiveSocketIsNotReplaced) {
  const auto second = transport_.listen("unix://" + path_, services_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), base::Code::already_exists);
  EXPECT_THAT(second.error().message(), HasSubstr(path_));
  EXPECT_TRUE(serves());
}

TEST_F(AddressTest, StaleSocketIsReplaced) {
  const auto stale = directory_.path() + "/stale";
  {
    const base::UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = http2::unix_address(stale);
    ASSERT_EQ(::bind(dead.get(), address.get(), address.length), 0);
  }
  auto listener = transport_.listen("unix://" + stale, services_);
  ASSERT_TRUE(listener) << listener.error().message();
  EXPECT_TRUE(call(*transport_.channel("unix:" + stale)));
}

TEST_F(AddressTest, OtherFilesAreNotReplaced) {
  const auto file = directory_.path() + "/notes";
  std::ofstream(file) << "precious";
  const auto listener = transport_.listen("unix://" + file, services_);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code(), base::Code::already_exists);
}

TEST_F(AddressTest, TcpPortInUseIsSaidClearly) {
  auto first = transport_.listen("tcp://127.0.0.1:0", services_);
  ASSERT_TRUE(first) << first.error().message();
  const auto second = transport_.listen((*first)->url(), services_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), base::Code::already_exists);
  EXPECT_THAT(second.error().message(), HasSubstr((*first)->url()));
}

TEST_F(AddressTest, EveryFormOfATcpAddressIsServed) {
  for (const auto* address : {"tcp://:0", "tcp://[::]:0", "tcp://0.0.0.0:0", "tcp://localhost:0", "127.0.0.1:0"}) {
    auto listener = transport_.listen(address, services_);
    ASSERT_TRUE(listener) << listener.error().message();
    const auto url = (*listener)->url();
    EXPECT_FALSE(url.ends_with(":0")) << url;
    const auto port = url.substr(url.rfind(':'));
    for (const auto& peer : {url, "tcp://127.0.0.1" + port, "localhost" + port}) {
      const auto reply = call(*transport_.channel(peer));
      EXPECT_TRUE(reply) << address << " " << peer << ": " << reply.error().message();
    }
  }
}

TEST_F(AddressTest, UnknownNameIsUnavailable) {
  const auto reply = call(*transport_.channel("tcp://no-such-host.invalid:1"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::unavailable);
  EXPECT_THAT(reply.error().message(), HasSubstr("no-such-host.invalid"));
}

TEST_F(AddressTest, InodeUrlIsDialledThroughItsDescriptor) {
  const auto socket = *Descriptor::open(path_);
  ASSERT_EQ(::unlink(path_.c_str()), 0);  // the descriptor leads there all the same
  const auto channel = transport_.channel(socket.url(), socket);
  ASSERT_TRUE(channel) << channel.error().message();
  const auto reply = call(*channel);
  EXPECT_TRUE(reply) << reply.error().message();
}

TEST_F(AddressTest, InodeUrlNeedsItsOwnDescriptor) {
  const auto socket = *Descriptor::open(path_);
  EXPECT_EQ(transport_.channel(socket.url()).error().code(), base::Code::failed_precondition);
  EXPECT_EQ(transport_.channel(socket.url(), memory_file()).error().code(), base::Code::invalid_argument);
  EXPECT_FALSE(transport_.listen(socket.url(), services_));
}

class NumberedTokens final : public CallCredentials {
 public:
  Metadata for_call(const Link& link) override { return {{"token", fmt::format("{}-{}", link.id(), ++calls_)}}; }

 private:
  int calls_ = 0;
};

TEST_F(AddressTest, CredentialsSpeakOnEveryCallOnceTheLinkIsUp) {
  services_["/t.T/Token"] = UnaryHandler([](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
    co_return std::string(single_value(call.metadata, "token").value_or("none"));
  });
  NumberedTokens tokens;
  http2::Plaintext plain;
  http2::Transport transport(loop_, tokens, plain);
  const auto channel = *transport.channel("unix://" + path_);
  for (int i = 1; i <= 3; ++i) {
    const auto reply = call(channel, "/t.T/Token");
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->body, fmt::format("{}-{}", reply->link->id(), i));
  }
}

TEST_F(AddressTest, CallWaitsForADialUntilItsDeadline) {
  // A full queue: connections that nobody accepts.
  const auto path = directory_.path() + "/full";
  base::UniqueFd full(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = http2::unix_address(path);
  ASSERT_EQ(::bind(full.get(), address.get(), address.length), 0);
  ASSERT_EQ(::listen(full.get(), 0), 0);
  const auto occupant = connect_unix(path);
  const auto channel = *transport_.channel("unix://" + path);
  const auto reply = call(channel, "/t.T/Echo", 100ms);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::deadline_exceeded);
  EXPECT_THAT(reply.error().message(), HasSubstr(path));
  // The dial goes on without the call; it ends when the server is gone.
  full.reset();
  EXPECT_EQ(call(channel, "/t.T/Echo", 5s).error().code(), base::Code::unavailable);
}

}  // namespace
}  // namespace rpc::testing
