// SPDX-License-Identifier: Apache-2.0
// What every rpc::Transport promises, as tests: include it in one test program, name your world, instantiate
// TransportSuite and, if files travel there, TransportFileSuite (see http2/transport_test.cc).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/async.h"
#include "rpc/transport.h"

namespace rpc::testing {

// Two processes' transports and the time they live in.
class TransportWorld {
 public:
  virtual ~TransportWorld() = default;
  virtual base::Scheduler& scheduler() = 0;
  virtual Transport& client() = 0;
  virtual Transport& server() = 0;
  virtual std::string fresh_url() = 0;  // nobody listens there yet
  virtual Descriptor fresh_file() = 0;  // a file whose key no other has
  // Runs events until done() or until this much time has passed.
  virtual void run(const std::function<bool()>& done, base::Duration at_most) = 0;
};

struct World {
  std::string name;
  std::function<std::unique_ptr<TransportWorld>()> make;
};

inline void PrintTo(const World& world, std::ostream* out) { *out << world.name; }

class TransportSuite : public ::testing::TestWithParam<World> {
 protected:
  static constexpr base::Duration kPatience = std::chrono::seconds(20);

  TransportSuite() : world_(GetParam().make()) {}

  void TearDown() override {
    channel_.reset();
    if (listener_) wait(finished(listener_.get()));
    listener_.reset();
    world_->run([] { return false; }, std::chrono::milliseconds(1));
  }

  template <typename T>
  static base::Task<void> store(base::Task<T> task, std::shared_ptr<std::optional<T>> into) {
    into->emplace(co_await task);
  }

  // A task under way and, later, its result.
  template <typename T>
  std::shared_ptr<std::optional<T>> begin(base::Task<T> task) {
    auto result = std::make_shared<std::optional<T>>();
    base::spawn_detached(store(std::move(task), result));
    return result;
  }

  template <typename T>
  T wait(const std::shared_ptr<std::optional<T>>& result) {
    world_->run([&] { return result->has_value(); }, kPatience);
    if (!result->has_value()) {
      ADD_FAILURE() << "a task did not end";
      std::abort();
    }
    return std::move(**result);
  }
  template <typename T>
  T wait(base::Task<T> task) {
    return wait(begin(std::move(task)));
  }

  bool eventually(const std::function<bool()>& condition) {
    world_->run(condition, kPatience);
    return condition();
  }
  void pass(base::Duration time) {
    world_->run([] { return false; }, time);
  }

  base::TimePoint in(base::Duration delay) { return world_->scheduler().now() + delay; }

  static base::Task<bool> finished(Listener* listener) {
    co_await listener->finish();
    co_return true;
  }
  void serve() {
    auto listener = world_->server().listen(world_->fresh_url(), services_);
    ASSERT_TRUE(listener) << listener.error().message();
    listener_ = std::move(*listener);
    channel_ = channel();
  }

  // What a stream's read() gave, in words.
  static std::string text(const base::Result<std::optional<Bytes>>& read) {
    if (!read) return fmt::format("({})", base::name_of(read.error().code()));
    return read->value_or("(end)");
  }

  std::shared_ptr<Channel> channel() {
    auto made = world_->client().channel(listener_->url());
    if (!made) {
      ADD_FAILURE() << made.error().message();
      std::abort();
    }
    return *made;
  }

  CallOptions patient() {
    CallOptions options;
    options.deadline = in(kPatience);
    return options;
  }

  base::Result<Reply> call(const std::string& method, const Bytes& request, CallOptions options) {
    return wait(channel_->unary(method, request, std::move(options)));
  }
  base::Result<Reply> call(const std::string& method, const Bytes& request) { return call(method, request, patient()); }

  // Keeps a handler waiting until its call is stopped or the gate is opened.
  struct Gate {
    explicit Gate(base::Scheduler& s) : scheduler(s) {}
    base::Scheduler& scheduler;
    base::StopSource opened;
    int entered = 0;
    int stopped = 0;
    int left = 0;

    base::Task<base::Result<Bytes>> pass(ServerCall& call) {
      ++entered;
      base::OneShot<bool> done(scheduler);
      auto on_stop = call.stop.on_stop([this, done] {
        ++stopped;
        done.set(false);
      });
      auto on_open = opened.token().on_stop([done] { done.set(true); });
      const bool open = co_await done;
      co_await base::sleep_for(scheduler, std::chrono::milliseconds(2), base::StopToken());  // its undo takes a while
      ++left;
      if (!open) co_return base::fail(base::Code::aborted, "the handler was stopped");
      co_return Bytes("passed");
    }
  };

  UnaryHandler gate_handler() {
    return [gate = &gate_](ServerCall& call, Bytes) { return gate->pass(call); };
  }
  // Takes the file the request names, or says why it cannot.
  base::Task<base::Result<Bytes>> take(ServerCall& call, Bytes request) {
    auto file =
        co_await call.link->descriptor(*parse_inode_url(request), in(std::chrono::milliseconds(300)), call.stop);
    if (!file) co_return std::unexpected(file.error());
    co_return "took " + file->url();
  }
  static UnaryHandler echo_handler() {
    return [](ServerCall&, Bytes request) -> base::Task<base::Result<Bytes>> { co_return std::move(request); };
  }

  std::unique_ptr<TransportWorld> world_;
  Gate gate_{world_->scheduler()};
  Services services_;
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<Channel> channel_;
};

TEST_P(TransportSuite, UnaryCallReturnsTheAnswer) {
  services_["/t.T/Echo"] = echo_handler();
  serve();
  const auto reply = call("/t.T/Echo", "hello");
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, "hello");
  EXPECT_NE(reply->link, nullptr);
}

TEST_P(TransportSuite, EmptyMessageIsAMessage) {
  services_["/t.T/Echo"] = echo_handler();
  serve();
  const auto reply = call("/t.T/Echo", "");
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, "");
}

TEST_P(TransportSuite, ErrorArrivesUnchanged) {
  services_["/t.T/Fail"] = UnaryHandler([](ServerCall&, Bytes) -> base::Task<base::Result<Bytes>> {
    co_return base::fail(base::Code::not_found, "Gerät 'ä%\n' ist 100% weg");
  });
  serve();
  const auto reply = call("/t.T/Fail", "x");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::not_found);
  EXPECT_EQ(reply.error().message(), "Gerät 'ä%\n' ist 100% weg");
}

TEST_P(TransportSuite, UnknownMethodIsUnimplemented) {
  serve();
  const auto reply = call("/t.T/Nothing", "x");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::unimplemented);
}

TEST_P(TransportSuite, MetadataTravelsBothWays) {
  services_["/t.T/Meta"] = UnaryHandler([](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
    call.reply_metadata.emplace("answer", "forty two");
    call.reply_metadata.emplace("answer-bin", std::string("\0\xff\x01", 3));
    std::string seen;
    for (const auto& key : {"token", "several", "raw-bin"}) {
      const auto [first, last] = call.metadata.equal_range(key);
      for (auto pair = first; pair != last; ++pair) seen += pair->second + ";";
    }
    co_return seen;
  });
  serve();
  auto options = patient();
  options.metadata.emplace("token", "abc");
  options.metadata.emplace("several", "1");
  options.metadata.emplace("several", "2");
  options.metadata.emplace("raw-bin", std::string("\0\n\xfe", 3));
  const auto reply = call("/t.T/Meta", "x", std::move(options));
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, std::string("abc;1;2;\0\n\xfe;", 12));
  EXPECT_EQ(single_value(reply->metadata, "answer"), "forty two");
  EXPECT_EQ(single_value(reply->metadata, "answer-bin"), std::string("\0\xff\x01", 3));
}

TEST_P(TransportSuite, DeadlineReachesTheHandlerAndEndsTheCall) {
  std::optional<base::TimePoint> seen;
  services_["/t.T/Slow"] = UnaryHandler([&, gate = &gate_](ServerCall& call, Bytes) {
    seen = call.deadline;
    return gate->pass(call);
  });
  serve();
  auto options = patient();
  options.deadline = in(std::chrono::milliseconds(80));
  const auto deadline = options.deadline;
  const auto reply = call("/t.T/Slow", "x", std::move(options));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::deadline_exceeded);
  EXPECT_GE(world_->scheduler().now(), deadline);
  ASSERT_TRUE(seen);
  EXPECT_LT(std::chrono::abs(*seen - deadline), std::chrono::milliseconds(60));
  EXPECT_TRUE(eventually([&] { return gate_.left == 1; }));
}

TEST_P(TransportSuite, WithoutDeadlineTheHandlerSeesNone) {
  std::optional<base::TimePoint> seen;
  services_["/t.T/Echo"] = UnaryHandler([&](ServerCall& call, Bytes request) -> base::Task<base::Result<Bytes>> {
    seen = call.deadline;
    return echo_handler()(call, std::move(request));
  });
  serve();
  ASSERT_TRUE(call("/t.T/Echo", "x", CallOptions()));
  EXPECT_EQ(seen, base::kNoDeadline);
}

TEST_P(TransportSuite, StopEndsTheCallAndStopsTheHandler) {
  services_["/t.T/Wait"] = gate_handler();
  serve();
  base::StopSource stop;
  auto options = patient();
  options.stop = stop.token();
  const auto reply = begin(channel_->unary("/t.T/Wait", "x", std::move(options)));
  ASSERT_TRUE(eventually([&] { return gate_.entered == 1; }));
  stop.request_stop();
  const auto result = wait(reply);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::cancelled);
  EXPECT_TRUE(eventually([&] { return gate_.stopped == 1 && gate_.left == 1; }));
}

TEST_P(TransportSuite, LargeMessagesPass) {
  services_["/t.T/Echo"] = echo_handler();
  serve();
  Bytes large(3 << 20, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 131 >> 3);
  const auto reply = call("/t.T/Echo", large);
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_TRUE(reply->body == large);
}

TEST_P(TransportSuite, TooLargeMessagesAreRefusedBothWays) {
  services_["/t.T/Grow"] =
      UnaryHandler([](ServerCall&, Bytes) -> base::Task<base::Result<Bytes>> { co_return Bytes((4 << 20) + 1, 'x'); });
  services_["/t.T/Echo"] = echo_handler();
  serve();
  const auto sent = call("/t.T/Echo", Bytes((4 << 20) + 1, 'x'));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), base::Code::resource_exhausted);
  const auto answered = call("/t.T/Grow", "x");
  ASSERT_FALSE(answered);
  EXPECT_EQ(answered.error().code(), base::Code::resource_exhausted);
  EXPECT_TRUE(call("/t.T/Echo", "still here"));
}

TEST_P(TransportSuite, ConcurrentCallsShareALinkAndFinishOutOfOrder) {
  services_["/t.T/Wait"] = gate_handler();
  services_["/t.T/Echo"] = echo_handler();
  serve();
  std::vector<std::shared_ptr<std::optional<base::Result<Reply>>>> waiting;
  for (int i = 0; i < 50; ++i) waiting.push_back(begin(channel_->unary("/t.T/Wait", "x", patient())));
  ASSERT_TRUE(eventually([&] { return gate_.entered == 50; }));
  const auto quick = call("/t.T/Echo", "quick");
  ASSERT_TRUE(quick) << quick.error().message();
  gate_.opened.request_stop();
  for (const auto& each : waiting) {
    const auto reply = wait(each);
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->body, "passed");
    EXPECT_EQ(reply->link->id(), quick->link->id());
  }
}

TEST_P(TransportSuite, NobodyThereIsUnavailable) {
  const auto url = world_->fresh_url();
  auto made = world_->client().channel(url);
  if (!made) return;  // no such address at all
  const auto reply = wait((*made)->unary("/t.T/Echo", "x", patient()));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::unavailable);
  EXPECT_THAT(reply.error().message(), ::testing::HasSubstr(url));
}

TEST_P(TransportSuite, ChannelIsSharedWhileHeld) {
  services_["/t.T/Echo"] = echo_handler();
  serve();
  EXPECT_EQ(channel().get(), channel_.get());
}

TEST_P(TransportSuite, BrokenLinkFailsCallsStopsHandlersAndIsDialledAgain) {
  services_["/t.T/Wait"] = gate_handler();
  services_["/t.T/Echo"] = echo_handler();
  serve();
  const auto url = listener_->url();
  const auto first = call("/t.T/Echo", "x");
  ASSERT_TRUE(first);
  const auto reply = begin(channel_->unary("/t.T/Wait", "x", patient()));
  ASSERT_TRUE(eventually([&] { return gate_.entered == 1; }));
  listener_.reset();
  const auto result = wait(reply);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::Code::unavailable);
  EXPECT_TRUE(eventually([&] { return gate_.left == 1; }));

  auto listener = world_->server().listen(url, services_);
  ASSERT_TRUE(listener) << listener.error().message();
  listener_ = std::move(*listener);
  const auto second = call("/t.T/Echo", "y");
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(second->body, "y");
  EXPECT_NE(second->link->id(), first->link->id());
}

TEST_P(TransportSuite, DroppedChannelStopsTheHandlersOfItsStreams) {
  services_["/t.T/Watch"] =
      StreamHandler([gate = &gate_](ServerCall& call, Bytes, ServerStream&) -> base::Task<base::Result<void>> {
        auto passed = co_await gate->pass(call);
        if (!passed) co_return std::unexpected(passed.error());
        co_return base::Result<void>{};
      });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "x", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  ASSERT_TRUE(eventually([&] { return gate_.entered == 1; }));
  stream->reset();
  EXPECT_TRUE(eventually([&] { return gate_.stopped == 1 && gate_.left == 1; }));
}

// A server of numbered events, sent when the test says so.
struct EventSource {
  explicit EventSource(base::Scheduler& s) : scheduler(s), events(s) {}
  base::Scheduler& scheduler;
  base::AsyncQueue<Bytes> events;
  std::size_t written = 0;
  bool stopped = false;
  bool ended = false;
  base::Result<void> last_write;
  base::Result<void> outcome;

  base::Task<base::Result<void>> serve(ServerCall& call, Bytes request, ServerStream& stream) {
    auto on_stop = call.stop.on_stop([this] {
      stopped = true;
      events.close();
    });
    last_write = co_await stream.write("initial " + request, {});
    while (auto event = co_await events.pop()) {
      last_write = co_await stream.write(std::move(*event), {});
      if (!last_write) break;
      ++written;
    }
    ended = true;
    co_return outcome;
  }
};

TEST_P(TransportSuite, StreamBringsTheInitialEventAndLaterOnes) {
  EventSource source(world_->scheduler());
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  EXPECT_EQ(text(wait((*stream)->read())), "initial me");
  auto next = begin((*stream)->read());
  pass(std::chrono::milliseconds(20));
  EXPECT_FALSE(next->has_value());
  source.events.push("one");
  EXPECT_EQ(text(wait(next)), "one");
  source.events.push("two");
  source.events.push("three");
  source.events.close();
  EXPECT_EQ(text(wait((*stream)->read())), "two");
  EXPECT_EQ(text(wait((*stream)->read())), "three");
  EXPECT_EQ(text(wait((*stream)->read())), "(end)");
  EXPECT_EQ(text(wait((*stream)->read())), "(end)");
  EXPECT_FALSE(source.stopped);
}

TEST_P(TransportSuite, StreamEndsWithTheServersError) {
  EventSource source(world_->scheduler());
  source.outcome = base::fail(base::Code::out_of_range, "no more");
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  source.events.close();
  EXPECT_TRUE(wait((*stream)->read()));
  const auto end = wait((*stream)->read());
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::Code::out_of_range);
  EXPECT_EQ(end.error().message(), "no more");
}

TEST_P(TransportSuite, StreamOfUnknownMethodEndsUnimplemented) {
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  const auto end = wait((*stream)->read());
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::Code::unimplemented);
}

TEST_P(TransportSuite, CancelledStreamEndsBothEnds) {
  EventSource source(world_->scheduler());
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  EXPECT_TRUE(wait((*stream)->read()));
  auto pending = begin((*stream)->read());
  (*stream)->cancel();
  const auto end = wait(pending);
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::Code::cancelled);
  EXPECT_TRUE(eventually([&] { return source.stopped && source.ended; }));
}

TEST_P(TransportSuite, StreamEndsAtItsDeadline) {
  EventSource source(world_->scheduler());
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  CallOptions options;
  options.deadline = in(std::chrono::milliseconds(80));
  auto stream = wait(channel_->stream("/t.T/Watch", "me", std::move(options)));
  ASSERT_TRUE(stream) << stream.error().message();
  EXPECT_TRUE(wait((*stream)->read()));
  const auto end = wait((*stream)->read());
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::Code::deadline_exceeded);
  EXPECT_TRUE(eventually([&] { return source.ended; }));
}

TEST_P(TransportSuite, StreamBreaksWithItsLink) {
  EventSource source(world_->scheduler());
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  EXPECT_TRUE(wait((*stream)->read()));
  listener_.reset();
  const auto end = wait((*stream)->read());
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::Code::unavailable);
  EXPECT_TRUE(eventually([&] { return source.stopped && source.ended; }));
}

TEST_P(TransportSuite, SlowReaderHoldsTheWriterBack) {
  EventSource source(world_->scheduler());
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  constexpr std::size_t kMessages = 400;
  constexpr std::size_t kSize = 50'000;
  for (std::size_t i = 0; i < kMessages; ++i) source.events.push(Bytes(kSize, static_cast<char>('a' + i % 26)));
  source.events.close();
  pass(std::chrono::milliseconds(200));
  EXPECT_LT(source.written, kMessages / 2) << "20 MB were written although nobody read";
  EXPECT_EQ(text(wait((*stream)->read())), "initial me");
  for (std::size_t i = 0; i < kMessages; ++i) {
    const auto message = wait((*stream)->read());
    ASSERT_TRUE(message && *message) << i;
    ASSERT_TRUE(**message == Bytes(kSize, static_cast<char>('a' + i % 26))) << i;
  }
  EXPECT_EQ(text(wait((*stream)->read())), "(end)");
  EXPECT_EQ(source.written, kMessages);
}

TEST_P(TransportSuite, WriterLearnsThatItsReaderLeft) {
  EventSource source(world_->scheduler());
  services_["/t.T/Watch"] = StreamHandler([&](ServerCall& call, Bytes request, ServerStream& stream) {
    return source.serve(call, std::move(request), stream);
  });
  serve();
  auto stream = wait(channel_->stream("/t.T/Watch", "me", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  for (int i = 0; i < 100; ++i) source.events.push(Bytes(100'000, 'x'));
  pass(std::chrono::milliseconds(50));
  ASSERT_FALSE(source.ended);
  stream->reset();
  EXPECT_TRUE(eventually([&] { return source.ended; }));
  EXPECT_FALSE(source.last_write);
}

TEST_P(TransportSuite, FinishStopsHandlersAndWaitsForThem) {
  services_["/t.T/Wait"] = gate_handler();
  serve();
  const auto reply = begin(channel_->unary("/t.T/Wait", "x", patient()));
  ASSERT_TRUE(eventually([&] { return gate_.entered == 1; }));
  const auto done = begin(finished(listener_.get()));
  wait(done);
  EXPECT_EQ(gate_.stopped, 1);
  EXPECT_EQ(gate_.left, 1);
  EXPECT_FALSE(wait(reply));
  const auto late = call("/t.T/Wait", "x");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), base::Code::unavailable);
}

// For worlds whose connections carry files.
class TransportFileSuite : public TransportSuite {};

TEST_P(TransportFileSuite, FileTravelsWithTheRequest) {
  services_["/t.T/Take"] = UnaryHandler([&](ServerCall& call, Bytes request) -> base::Task<base::Result<Bytes>> {
    return take(call, std::move(request));
  });
  serve();
  const auto file = world_->fresh_file();
  auto options = patient();
  options.descriptors.push_back(file);
  const auto reply = call("/t.T/Take", file.url(), std::move(options));
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, "took " + file.url());
}

TEST_P(TransportFileSuite, FileTravelsWithTheAnswer) {
  const auto file = world_->fresh_file();
  services_["/t.T/Give"] = UnaryHandler([&](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
    call.reply_descriptors.push_back(file);
    co_return file.url();
  });
  serve();
  const auto reply = call("/t.T/Give", "x");
  ASSERT_TRUE(reply) << reply.error().message();
  const auto got = wait(reply->link->descriptor(*parse_inode_url(reply->body), in(kPatience), {}));
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(got->key(), file.key());
}

TEST_P(TransportFileSuite, FileTravelsWithAStreamsMessage) {
  const auto file = world_->fresh_file();
  services_["/t.T/Find"] =
      StreamHandler([&](ServerCall&, Bytes, ServerStream& stream) -> base::Task<base::Result<void>> {
        std::vector<Descriptor> files{file};
        co_return co_await stream.write(file.url(), std::move(files));
      });
  serve();
  auto stream = wait(channel_->stream("/t.T/Find", "x", patient()));
  ASSERT_TRUE(stream) << stream.error().message();
  const auto message = wait((*stream)->read());
  ASSERT_TRUE(message && *message);
  const auto got = wait((*stream)->link()->descriptor(*parse_inode_url(**message), in(kPatience), {}));
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(got->key(), file.key());
}

TEST_P(TransportFileSuite, FileOfAnotherLinkIsNotGiven) {
  services_["/t.T/Take"] = UnaryHandler([&](ServerCall& call, Bytes request) -> base::Task<base::Result<Bytes>> {
    return take(call, std::move(request));
  });
  serve();
  const auto file = world_->fresh_file();
  auto options = patient();
  options.descriptors.push_back(file);
  const auto first = call("/t.T/Take", file.url(), std::move(options));
  ASSERT_TRUE(first) << first.error().message();
  // The same process, another connection: it has not brought the file.
  channel_.reset();
  pass(std::chrono::milliseconds(20));
  channel_ = channel();
  const auto second = call("/t.T/Take", file.url());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), base::Code::deadline_exceeded);
  EXPECT_THAT(second.error().message(), ::testing::HasSubstr(file.url()));
}

TEST_P(TransportFileSuite, WaitForAFileEndsWithItsStopAndItsLink) {
  services_["/t.T/Echo"] = echo_handler();
  serve();
  const auto reply = call("/t.T/Echo", "x");
  ASSERT_TRUE(reply) << reply.error().message();
  const auto never = world_->fresh_file().key();
  base::StopSource stop;
  const auto stopped = begin(reply->link->descriptor(never, base::kNoDeadline, stop.token()));
  const auto broken = begin(reply->link->descriptor(never, base::kNoDeadline, {}));
  stop.request_stop();
  EXPECT_EQ(wait(stopped).error().code(), base::Code::cancelled);
  listener_.reset();
  EXPECT_EQ(wait(broken).error().code(), base::Code::unavailable);
}

}  // namespace rpc::testing
