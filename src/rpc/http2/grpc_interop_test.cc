// SPDX-License-Identifier: Apache-2.0
// gRPC C++ as the foreign peer: as client of our server and as server of our client. The only file that includes gRPC.
#include <grpc/grpc.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"

namespace rpc::testing {
namespace {

using namespace std::chrono_literals;
using grpc::ByteBuffer;

ByteBuffer buffer_of(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return {&slice, 1};
}

std::string bytes_of(const ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  buffer.Dump(&slices);
  std::string bytes;
  for (const auto& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 131 >> 3);
  return bytes;
}

// gRPC stays up until the process ends: shutting it down after each test may wait ten seconds for its idle threads.
[[maybe_unused]] const bool kGrpcStaysUp = [] {
  grpc_init();
  return true;
}();

const std::string kAwkward = "Gerät 'ä%\n' ist 100% weg \xf0\x9f\x94\x8c";

// ---- gRPC C++ calls our server, whose loop runs in the test's thread while the client has one of its own.

class GrpcClientTest : public ::testing::TestWithParam<bool> {
 protected:
  GrpcClientTest() {
    services_["/t.T/Echo"] = UnaryHandler(
        [](ServerCall&, Bytes request) -> base::Task<base::Result<Bytes>> { co_return std::move(request); });
    services_["/t.T/Fail"] = UnaryHandler([](ServerCall&, Bytes) -> base::Task<base::Result<Bytes>> {
      co_return base::fail(base::Code::permission_denied, "{}", kAwkward);
    });
    services_["/t.T/Meta"] = UnaryHandler([](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
      call.reply_metadata.emplace("answer", "42");
      call.reply_metadata.emplace("answer-bin", std::string("\0\xff", 2));
      co_return std::string(single_value(call.metadata, "word").value_or("?")) + "/" +
          std::string(single_value(call.metadata, "word-bin").value_or("?"));
    });
    services_["/t.T/Deadline"] = UnaryHandler([this](ServerCall& call, Bytes) -> base::Task<base::Result<Bytes>> {
      seen_deadline_ = call.deadline - loop_.now();
      co_await wait_for_stop(call.stop);
      co_return base::fail(base::Code::aborted, "stopped");
    });
    services_["/t.T/Count"] =
        StreamHandler([](ServerCall& call, Bytes request, ServerStream& stream) -> base::Task<base::Result<void>> {
          call.reply_metadata.emplace("answer", "counting");
          const int count = std::stoi(request);
          for (int i = 0; i < count; ++i) {
            if (auto sent = co_await stream.write(fmt::format("event {}", i), {}); !sent) co_return sent;
          }
          co_return base::fail(base::Code::out_of_range, "that was {}", count);
        });
    services_["/t.T/Watch"] =
        StreamHandler([this](ServerCall& call, Bytes, ServerStream& stream) -> base::Task<base::Result<void>> {
          if (auto sent = co_await stream.write("first", {}); !sent) co_return sent;
          co_await wait_for_stop(call.stop);
          co_return base::Result<void>{};
        });
    const bool unix_socket = GetParam();
    auto listener =
        transport_.listen(unix_socket ? "unix://" + directory_.path() + "/s" : "tcp://127.0.0.1:0", services_);
    listener_ = std::move(*listener);
    const auto url = listener_->url();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel(unix_socket ? "unix:" + url.substr(7) : url.substr(6),
                                         grpc::InsecureChannelCredentials(), arguments);
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
  }

  ~GrpcClientTest() override {
    stub_.reset();
    channel_.reset();
    wait(loop_, finished(listener_.get()));
  }

  static base::Task<bool> finished(Listener* listener) {
    co_await listener->finish();
    co_return true;
  }

  base::Task<void> wait_for_stop(base::StopToken stop) {
    base::OneShot<bool> done(loop_);
    auto registration = stop.on_stop([done] { done.set(true); });
    co_await done;
    ++stopped_;
  }

  // Runs the client's part on a thread and the loop until it is over.
  void client(const std::function<void()>& part) {
    std::atomic<bool> done = false;
    std::thread thread([&] {
      part();
      done = true;
    });
    run_until(loop_, [&] { return done.load(); }, 20s);
    EXPECT_TRUE(done);
    thread.join();
  }

  grpc::Status unary(grpc::ClientContext& context, const std::string& method, const std::string& request,
                     std::string* answer) {
    grpc::CompletionQueue queue;
    auto call = stub_->PrepareUnaryCall(&context, method, buffer_of(request), &queue);
    call->StartCall();
    ByteBuffer reply;
    grpc::Status status;
    call->Finish(&reply, &status, this);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (status.ok() && answer != nullptr) *answer = bytes_of(reply);
    return status;
  }

  // Starts a stream, reads at most this many messages, then cancels if there was one more to come.
  grpc::Status stream(grpc::ClientContext& context, const std::string& method, const std::string& request,
                      std::size_t at_most, std::vector<std::string>* messages) {
    grpc::CompletionQueue queue;
    void* tag = nullptr;
    bool ok = false;
    const auto next = [&] { return queue.Next(&tag, &ok) && ok; };
    auto call = stub_->PrepareCall(&context, method, &queue);
    call->StartCall(this);
    next();
    call->WriteLast(buffer_of(request), grpc::WriteOptions(), this);
    next();
    while (messages->size() < at_most) {
      ByteBuffer message;
      call->Read(&message, this);
      if (!next()) break;
      messages->push_back(bytes_of(message));
    }
    if (messages->size() == at_most) context.TryCancel();
    grpc::Status status;
    call->Finish(&status, this);
    next();
    return status;
  }

  base::EventLoop loop_;
  ScratchDirectory directory_;
  http2::Transport transport_{loop_};
  Services services_;
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  base::Duration seen_deadline_{};
  int stopped_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Over, GrpcClientTest, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "unix_socket" : "tcp"; });

TEST_P(GrpcClientTest, UnaryCall) {
  client([&] {
    for (int i = 0; i < 20; ++i) {
      grpc::ClientContext context;
      std::string answer;
      const auto status = unary(context, "/t.T/Echo", fmt::format("hello {}", i), &answer);
      EXPECT_TRUE(status.ok()) << status.error_message();
      EXPECT_EQ(answer, fmt::format("hello {}", i));
    }
  });
}

TEST_P(GrpcClientTest, LargeMessage) {
  client([&] {
    const auto large = pattern(4 << 20);
    grpc::ClientContext context;
    std::string answer;
    const auto status = unary(context, "/t.T/Echo", large, &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(answer == large);
  });
}

TEST_P(GrpcClientTest, TooLargeMessageIsResourceExhausted) {
  client([&] {
    grpc::ClientContext context;
    const auto status = unary(context, "/t.T/Echo", pattern((4 << 20) + 1), nullptr);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    grpc::ClientContext again;
    EXPECT_TRUE(unary(again, "/t.T/Echo", "x", nullptr).ok());
  });
}

TEST_P(GrpcClientTest, ErrorWithAwkwardText) {
  client([&] {
    grpc::ClientContext context;
    const auto status = unary(context, "/t.T/Fail", "x", nullptr);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(status.error_message(), kAwkward);
  });
}

TEST_P(GrpcClientTest, UnknownMethodIsUnimplemented) {
  client([&] {
    grpc::ClientContext context;
    EXPECT_EQ(unary(context, "/t.T/Nothing", "x", nullptr).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  });
}

TEST_P(GrpcClientTest, CompressedMessageIsUnimplemented) {
  client([&] {
    grpc::ClientContext context;
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    const auto status = unary(context, "/t.T/Echo", std::string(10'000, 'x'), nullptr);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
  });
}

TEST_P(GrpcClientTest, Metadata) {
  client([&] {
    grpc::ClientContext context;
    context.AddMetadata("word", "plain");
    context.AddMetadata("word-bin", std::string("\0\x80,", 3));
    std::string answer;
    const auto status = unary(context, "/t.T/Meta", "x", &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(answer, std::string("plain/\0\x80,", 9));
    const auto& metadata = context.GetServerInitialMetadata();
    ASSERT_EQ(metadata.count("answer"), 1U);
    EXPECT_EQ(metadata.find("answer")->second, "42");
    ASSERT_EQ(metadata.count("answer-bin"), 1U);
    EXPECT_EQ(metadata.find("answer-bin")->second, grpc::string_ref(std::string("\0\xff", 2)));
  });
}

TEST_P(GrpcClientTest, DeadlineReachesUsAndItsEndStopsTheHandler) {
  client([&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 200ms);
    EXPECT_EQ(unary(context, "/t.T/Deadline", "x", nullptr).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  run_until(loop_, [&] { return stopped_ == 1; }, 10s);
  EXPECT_EQ(stopped_, 1);
  EXPECT_GT(seen_deadline_, 0ms);
  EXPECT_LE(seen_deadline_, 250ms);  // gRPC rounds up
}

TEST_P(GrpcClientTest, ServerStreamEndsWithItsStatus) {
  client([&] {
    grpc::ClientContext context;
    std::vector<std::string> messages;
    const auto status = stream(context, "/t.T/Count", "500", 1000, &messages);
    ASSERT_EQ(messages.size(), 500U);
    EXPECT_EQ(messages.front(), "event 0");
    EXPECT_EQ(messages.back(), "event 499");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
    EXPECT_EQ(status.error_message(), "that was 500");
    EXPECT_EQ(context.GetServerInitialMetadata().count("answer"), 1U);
  });
}

TEST_P(GrpcClientTest, CancelledStreamStopsTheHandler) {
  client([&] {
    grpc::ClientContext context;
    std::vector<std::string> messages;
    EXPECT_EQ(stream(context, "/t.T/Watch", "x", 1, &messages).error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_EQ(messages, std::vector<std::string>{"first"});
  });
  run_until(loop_, [&] { return stopped_ == 1; }, 10s);
  EXPECT_EQ(stopped_, 1);
}

// ---- Our client calls a server of gRPC C++, which has threads of its own.

class GenericServer final : public grpc::CallbackGenericService {
 public:
  std::atomic<int> cancelled = 0;

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new Reactor(*this, context);
  }

 private:
  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    Reactor(GenericServer& server, grpc::GenericCallbackServerContext* context) : server_(server), context_(context) {
      StartRead(&request_);
    }

    void OnReadDone(bool ok) override {
      if (!ok) return Finish({grpc::StatusCode::INTERNAL, "no request"});
      const auto& method = context_->method();
      const auto request = bytes_of(request_);
      if (method == "/t.T/Echo") {
        answer_ = buffer_of(request);
        StartWriteAndFinish(&answer_, grpc::WriteOptions(), grpc::Status::OK);
      } else if (method == "/t.T/Fail") {
        Finish({grpc::StatusCode::PERMISSION_DENIED, kAwkward});
      } else if (method == "/t.T/Meta") {
        context_->AddInitialMetadata("answer", "42");
        context_->AddInitialMetadata("answer-bin", std::string("\0\xff", 2));
        const auto& metadata = context_->client_metadata();
        const auto value = [&](const char* key) {
          const auto found = metadata.find(key);
          return found == metadata.end() ? std::string("?") : std::string(found->second.data(), found->second.size());
        };
        answer_ = buffer_of(value("word") + "/" + value("word-bin"));
        StartWriteAndFinish(&answer_, grpc::WriteOptions(), grpc::Status::OK);
      } else if (method == "/t.T/Count") {
        left_ = std::stoi(request);
        next();
      } else if (method != "/t.T/Wait") {
        Finish({grpc::StatusCode::UNIMPLEMENTED, ""});
      }
    }
    void OnWriteDone(bool ok) override {
      if (ok && context_->method() == "/t.T/Count") next();
    }
    void OnCancel() override {
      ++server_.cancelled;
      if (context_->method() == "/t.T/Wait") Finish(grpc::Status::CANCELLED);
    }
    void OnDone() override { delete this; }

   private:
    void next() {
      if (left_ == 0) return Finish(grpc::Status::OK);
      answer_ = buffer_of(fmt::format("left {}", left_--));
      StartWrite(&answer_);
    }

    GenericServer& server_;
    grpc::GenericCallbackServerContext* const context_;
    ByteBuffer request_;
    ByteBuffer answer_;
    int left_ = 0;
  };
};

class GrpcServerTest : public ::testing::TestWithParam<bool> {
 protected:
  GrpcServerTest() {
    const bool unix_socket = GetParam();
    int port = 0;
    start(unix_socket ? "unix:" + directory_.path() + "/s" : "127.0.0.1:0", &port);
    url_ = unix_socket ? "unix://" + directory_.path() + "/s" : fmt::format("tcp://127.0.0.1:{}", port);
    channel_ = *transport_.channel(url_);
  }
  ~GrpcServerTest() override {
    channel_.reset();
    server_->Shutdown(std::chrono::system_clock::now());
  }

  void start(const std::string& address, int* port) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), port);
    services_.push_back(std::make_unique<GenericServer>());  // gRPC wants one for each server
    builder.RegisterCallbackGenericService(services_.back().get());
    server_ = builder.BuildAndStart();
  }

  base::Result<Reply> call(const std::string& method, const std::string& request, base::Duration time = 20s) {
    CallOptions options;
    options.deadline = loop_.now() + time;
    options.metadata.emplace("word", "plain");
    options.metadata.emplace("word-bin", std::string("\0\x80,", 3));
    return wait(loop_, channel_->unary(method, request, std::move(options)));
  }

  base::EventLoop loop_;
  ScratchDirectory directory_;
  http2::Transport transport_{loop_};
  std::vector<std::unique_ptr<GenericServer>> services_;
  std::unique_ptr<grpc::Server> server_;
  std::string url_;
  std::shared_ptr<Channel> channel_;
};

INSTANTIATE_TEST_SUITE_P(Over, GrpcServerTest, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "unix_socket" : "tcp"; });

TEST_P(GrpcServerTest, UnaryCall) {
  for (int i = 0; i < 20; ++i) {
    const auto reply = call("/t.T/Echo", fmt::format("hello {}", i));
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->body, fmt::format("hello {}", i));
  }
}

TEST_P(GrpcServerTest, LargeMessage) {
  const auto large = pattern(4 << 20);
  const auto reply = call("/t.T/Echo", large);
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_TRUE(reply->body == large);
}

TEST_P(GrpcServerTest, ErrorWithAwkwardText) {
  const auto reply = call("/t.T/Fail", "x");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::permission_denied);
  EXPECT_EQ(reply.error().message(), kAwkward);
}

TEST_P(GrpcServerTest, UnknownMethodIsUnimplemented) {
  const auto reply = call("/t.T/Nothing", "x");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::unimplemented);
}

TEST_P(GrpcServerTest, Metadata) {
  const auto reply = call("/t.T/Meta", "x");
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, std::string("plain/\0\x80,", 9));
  EXPECT_EQ(single_value(reply->metadata, "answer"), "42");
  EXPECT_EQ(single_value(reply->metadata, "answer-bin"), std::string("\0\xff", 2));
}

TEST_P(GrpcServerTest, DeadlineEndsTheCallThereToo) {
  const auto reply = call("/t.T/Wait", "x", 200ms);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), base::Code::deadline_exceeded);
  run_until(loop_, [&] { return services_[0]->cancelled == 1; }, 10s);
  EXPECT_EQ(services_[0]->cancelled, 1);
}

TEST_P(GrpcServerTest, ServerStream) {
  auto stream = wait(loop_, channel_->stream("/t.T/Count", "500", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  for (int i = 500; i > 0; --i) {
    const auto message = wait(loop_, (*stream)->read());
    ASSERT_TRUE(message && *message) << i;
    EXPECT_EQ(**message, fmt::format("left {}", i));
  }
  const auto end = wait(loop_, (*stream)->read());
  ASSERT_TRUE(end) << end.error().message();
  EXPECT_FALSE(*end);
}

TEST_P(GrpcServerTest, DroppedStreamIsCancelledThere) {
  auto stream = wait(loop_, channel_->stream("/t.T/Wait", "x", CallOptions()));
  ASSERT_TRUE(stream) << stream.error().message();
  // An answered call proves that the server has seen the stream's request.
  ASSERT_TRUE(call("/t.T/Echo", "x"));
  stream->reset();
  run_until(loop_, [&] { return services_[0]->cancelled == 1; }, 10s);
  EXPECT_EQ(services_[0]->cancelled, 1);
}

TEST_P(GrpcServerTest, GoodbyeIsTakenAndTheNextServerDialled) {
  ASSERT_TRUE(call("/t.T/Echo", "before"));
  const auto waiting = begin(channel_->unary("/t.T/Wait", "x", CallOptions()));
  ASSERT_TRUE(call("/t.T/Echo", "before"));
  std::thread([&] { server_->Shutdown(std::chrono::system_clock::now() + 300ms); }).join();
  EXPECT_FALSE(wait(loop_, waiting));
  server_->Wait();
  int port = 0;
  start(GetParam() ? "unix:" + directory_.path() + "/s" : url_.substr(6), &port);
  const auto reply = call("/t.T/Echo", "after");
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, "after");
}

}  // namespace
}  // namespace rpc::testing
