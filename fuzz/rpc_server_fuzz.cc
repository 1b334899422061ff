// SPDX-License-Identifier: Apache-2.0
// Bytes from a client nobody trusts, into a server's connection: an in-memory stream, a scheduler that runs at once.
// The first byte says how the bytes are cut into reads; the rest follow the preface only if they bring it themselves.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>

#include "rpc/http2/server_connection.h"

namespace {

class ManualScheduler final : public base::Scheduler {
 public:
  base::TimePoint now() const override { return now_; }
  base::WallTime wall_now() const override { return {}; }
  void post(std::move_only_function<void()> function) override { ready_.push_back(std::move(function)); }
  base::TimerId post_at(base::TimePoint when, std::move_only_function<void()> function) override {
    timers_.emplace(std::pair{when, ++next_}, std::move(function));
    return next_;
  }
  void cancel(base::TimerId timer) override {
    std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
  }
  void run() {
    while (!ready_.empty()) {
      auto function = std::move(ready_.front());
      ready_.pop_front();
      function();
    }
  }
  // Lets all the time pass that anybody waits for.
  void run_to_the_end() {
    run();
    while (!timers_.empty()) {
      auto first = timers_.begin();
      now_ = std::max(now_, first->first.first);
      auto function = std::move(first->second);
      timers_.erase(first);
      function();
      run();
    }
  }

 private:
  base::TimePoint now_{};
  base::TimerId next_ = 0;
  std::deque<std::move_only_function<void()>> ready_;
  std::map<std::pair<base::TimePoint, base::TimerId>, std::move_only_function<void()>> timers_;
};

class MemoryStream final : public rpc::http2::ByteStream {
 public:
  MemoryStream(base::Scheduler& scheduler, std::span<const char> bytes, std::size_t step)
      : scheduler_(scheduler), bytes_(bytes), step_(step) {}

  base::Result<std::optional<std::size_t>> read(std::span<char> into) override {
    const auto part = std::min({into.size(), step_, bytes_.size()});
    std::memcpy(into.data(), bytes_.data(), part);
    bytes_ = bytes_.subspan(part);
    return part;
  }
  base::Result<std::size_t> write(std::span<const char> bytes) override { return bytes.size(); }
  void when_readable(std::move_only_function<void(bool)> callback) override {
    scheduler_.post([call = std::move(callback)]() mutable { call(true); });
  }
  void when_writable(std::move_only_function<void(bool)> callback) override { when_readable(std::move(callback)); }
  void close() override {}
  void attach(rpc::Descriptor) override {}
  void on_descriptor(std::function<void(rpc::Descriptor)>) override {}

 private:
  base::Scheduler& scheduler_;
  std::span<const char> bytes_;
  const std::size_t step_;
};

base::Task<base::Result<rpc::Bytes>> echo(rpc::ServerCall& call, rpc::Bytes request) {
  call.reply_metadata = call.metadata;
  co_return std::move(request);
}

base::Task<base::Result<void>> repeat(rpc::ServerCall&, rpc::Bytes request, rpc::ServerStream& stream) {
  for (int i = 0; i < 3; ++i) {
    if (auto sent = co_await stream.write(request, {}); !sent) co_return sent;
  }
  co_return base::Result<void>{};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  if (size == 0) return 0;
  ManualScheduler scheduler;
  const rpc::Services services{{"/t.T/Echo", rpc::UnaryHandler(echo)}, {"/t.T/Repeat", rpc::StreamHandler(repeat)}};
  rpc::http2::Limits limits;
  limits.max_message = 4096;
  limits.max_incomplete = 16384;
  limits.max_header_list = 2048;
  limits.max_streams = 20;
  rpc::http2::Plaintext security;
  auto core = std::make_shared<rpc::http2::ServerCore>(scheduler, services, limits, security);
  {
    const std::span<const char> input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    const std::size_t step = bytes[0] < 200 ? static_cast<std::size_t>(bytes[0]) + 1 : 65536;
    const auto connection =
        std::make_shared<rpc::http2::ServerConnection>(core, std::make_unique<MemoryStream>(scheduler, input, step), 0);
    core->connections.insert(connection);
    connection->start();
  }
  scheduler.run_to_the_end();
  // The stream's end closes the connection, and every handler has ended: nothing is left behind.
  if (!core->connections.empty() || core->handlers.running() != 0) __builtin_trap();
  return 0;
}
