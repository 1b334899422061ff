// SPDX-License-Identifier: Apache-2.0
// How long a unary call over a unix socket takes between two processes; printed, not judged: machines differ.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"

namespace rpc::testing {
namespace {

using namespace std::chrono_literals;

[[noreturn]] void serve(const std::string& url) {
  base::EventLoop loop;
  http2::Transport transport(loop);
  const Services services{{"/t.T/Echo", UnaryHandler([](ServerCall&, Bytes request) -> base::Task<base::Result<Bytes>> {
                             co_return std::move(request);
                           })}};
  const auto listener = transport.listen(url, services);
  loop.run();
  std::_Exit(1);
}

base::Task<bool> measure(base::EventLoop& loop, std::shared_ptr<Channel> channel, std::size_t size, int count,
                         std::vector<double>& microseconds) {
  for (int i = 0; i < count; ++i) {
    const auto started = loop.now();
    CallOptions options;
    options.deadline = started + 10s;
    Bytes request(size, 'x');
    const auto reply = co_await channel->unary("/t.T/Echo", std::move(request), std::move(options));
    if (!reply) co_return false;
    microseconds.push_back(static_cast<double>((loop.now() - started).count()) / 1000);
  }
  co_return true;
}

TEST(Latency, UnaryCallOverAUnixSocket) {
  const ScratchDirectory directory;
  const auto path = directory.path() + "/s";
  const auto child = ::fork();
  if (child == 0) serve("unix://" + path);

  base::EventLoop loop;
  http2::Transport transport(loop);
  run_until(loop, [&] { return std::filesystem::exists(path); }, 10s);
  for (const std::size_t size : {100U, 10'000U}) {
    const auto channel = *transport.channel("unix://" + path);
    std::vector<double> times;
    EXPECT_TRUE(wait(loop, measure(loop, channel, size, 200, times)));  // warm
    times.clear();
    EXPECT_TRUE(wait(loop, measure(loop, channel, size, 5000, times)));
    std::ranges::sort(times);
    if (times.empty()) continue;
    std::printf("unary, unix socket, %zu bytes each way: p50 %.1f us, p99 %.1f us, min %.1f us\n", size,
                times[times.size() / 2], times[times.size() * 99 / 100], times.front());
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace rpc::testing
