// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <thread>
#include <vector>

namespace base {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

constexpr Duration kPatience = 10s;

TEST(EventLoop, PostedFunctionsRunLaterInOrder) {
  EventLoop loop;
  std::vector<int> ran;
  loop.post([&] {
    loop.post([&] { ran.push_back(3); });
    ran.push_back(1);
  });
  loop.post([&] { ran.push_back(2); });
  EXPECT_THAT(ran, ElementsAre());
  ASSERT_TRUE(loop.run_until([&] { return ran.size() == 3; }, kPatience));
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
}

TEST(EventLoop, TimersRunInOrderOfTimeAndNotEarly) {
  EventLoop loop;
  std::vector<int> ran;
  const auto start = loop.now();
  loop.post_at(start + 20ms, [&] { ran.push_back(2); });
  loop.post_at(start + 5ms, [&] { ran.push_back(1); });
  loop.post_at(start - 1h, [&] { ran.push_back(0); });
  ASSERT_TRUE(loop.run_until([&] { return ran.size() == 3; }, kPatience));
  EXPECT_THAT(ran, ElementsAre(0, 1, 2));
  EXPECT_GE(loop.now() - start, 20ms);
}

TEST(EventLoop, CancelledTimerDoesNotRun) {
  EventLoop loop;
  bool ran = false;
  bool last = false;
  const auto timer = loop.post_at(loop.now() + 1ms, [&] { ran = true; });
  loop.cancel(timer);
  loop.cancel(timer);
  loop.cancel(0);
  loop.post_at(loop.now() + 5ms, [&] { last = true; });
  ASSERT_TRUE(loop.run_until([&] { return last; }, kPatience));
  EXPECT_FALSE(ran);
}

TEST(EventLoop, DueTimerCancelledByAnotherDoesNotRun) {
  EventLoop loop;
  int ran = 0;
  TimerId first = 0;
  TimerId second = 0;
  bool last = false;
  const auto when = loop.now() - 1ms;  // both are due at once, so the loser is queued already when it is cancelled
  first = loop.post_at(when, [&] { ++ran, loop.cancel(second); });
  second = loop.post_at(when, [&] { ++ran, loop.cancel(first); });
  loop.post_at(loop.now() + 5ms, [&] { last = true; });
  ASSERT_TRUE(loop.run_until([&] { return last; }, kPatience));
  EXPECT_EQ(ran, 1);
}

TEST(EventLoop, TimerMayCancelItself) {
  EventLoop loop;
  bool ran = false;
  TimerId timer = 0;
  timer = loop.post_at(loop.now(), [&] {
    loop.cancel(timer);
    ran = true;
  });
  EXPECT_TRUE(loop.run_until([&] { return ran; }, kPatience));
}

TEST(EventLoop, TimerForNeverDoesNotRun) {
  EventLoop loop;
  bool never = false;
  bool soon = false;
  loop.post_at(kNoDeadline, [&] { never = true; });
  loop.post_at(saturating_add(loop.now(), Duration::max()), [&] { never = true; });
  loop.post_at(loop.now() + 1ms, [&] { soon = true; });
  ASSERT_TRUE(loop.run_until([&] { return soon; }, kPatience));
  EXPECT_FALSE(never);
}

TEST(EventLoop, RunLastsUntilQuitAndCanBeRunAgain) {
  EventLoop loop;
  for (int round = 0; round < 2; ++round) {
    bool ran = false;
    loop.post([&] {
      ran = true;
      loop.quit();
    });
    loop.run();
    EXPECT_TRUE(ran) << round;
  }
}

TEST(EventLoop, QuitBeforeRunIsNotLost) {
  EventLoop loop;
  loop.quit();
  loop.run();
}

TEST(EventLoop, RunUntilGivesUp) {
  EventLoop loop;
  const auto start = loop.now();
  EXPECT_FALSE(loop.run_until([] { return false; }, 10ms));
  EXPECT_GE(loop.now() - start, 10ms);
}

TEST(EventLoop, PostFromOtherThreadsWakesTheLoop) {
  EventLoop loop;
  int ran = 0;  // written on the loop's thread alone
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 250; ++k) loop.post([&] { ++ran; });
    });
  }
  EXPECT_TRUE(loop.run_until([&] { return ran == 1000; }, kPatience));
}

TEST(EventLoop, SignalsCallBackEachTime) {
  EventLoop loop;
  std::vector<int> heard;
  loop.on_signals({SIGUSR1, SIGUSR2}, [&](int number) { heard.push_back(number); });
  ::raise(SIGUSR1);
  ASSERT_TRUE(loop.run_until([&] { return heard.size() == 1; }, kPatience));
  ::raise(SIGUSR2);
  ASSERT_TRUE(loop.run_until([&] { return heard.size() == 2; }, kPatience));
  EXPECT_THAT(heard, ElementsAre(SIGUSR1, SIGUSR2));
}

// What a dying loop still holds may have timers of its own to cancel and watchers to close.
TEST(EventLoop, PendingWorkIsDestroyedWhileTheLoopCanStillBeCalled) {
  struct Owner {
    EventLoop& loop;
    TimerId timer;
    int& destroyed;
    ~Owner() {
      loop.cancel(timer);
      loop.post([] {});
      loop.cancel(loop.post_at(loop.now(), [] {}));
      ++destroyed;
    }
  };
  int destroyed = 0;
  {
    EventLoop loop;
    const auto owner = [&] {
      return std::shared_ptr<Owner>(new Owner{loop, loop.post_at(loop.now() + 1h, [] {}), destroyed});
    };
    loop.post([kept = owner()] {});
    loop.post_at(loop.now() + 1h, [kept = owner()] {});
    loop.on_signals({SIGUSR1}, [kept = owner()](int) {});
  }
  EXPECT_EQ(destroyed, 3);
}

std::array<UniqueFd, 2> socket_pair() {
  std::array<int, 2> fds{-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

TEST(FdWatcher, MakesTheDescriptorNonBlocking) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  const FdWatcher watcher(loop, std::move(near));
  EXPECT_NE(::fcntl(watcher.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(FdWatcher, CallsBackWhenReadable) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  FdWatcher watcher(loop, std::move(near));
  int calls = 0;
  watcher.when_readable([&](bool ready) { calls += ready ? 1 : 100; });
  loop.run_for(5ms);
  EXPECT_EQ(calls, 0);
  ASSERT_EQ(::write(far.get(), "ab", 2), 2);
  EXPECT_TRUE(loop.run_until([&] { return calls == 1; }, kPatience));
}

TEST(FdWatcher, UnreadRestIsReportedAgain) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  FdWatcher watcher(loop, std::move(near));
  ASSERT_EQ(::write(far.get(), "ab", 2), 2);
  for (int round = 0; round < 2; ++round) {
    bool called = false;
    watcher.when_readable([&](bool ready) { called = ready; });
    ASSERT_TRUE(loop.run_until([&] { return called; }, kPatience)) << round;
    char byte = 0;
    ASSERT_EQ(::read(watcher.fd(), &byte, 1), 1);
  }
}

TEST(FdWatcher, EndOfStreamIsReadable) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  FdWatcher watcher(loop, std::move(near));
  far.reset();
  bool called = false;
  watcher.when_readable([&](bool ready) { called = ready; });
  EXPECT_TRUE(loop.run_until([&] { return called; }, kPatience));
}

TEST(FdWatcher, WritableOnceTheBufferDrains) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  FdWatcher watcher(loop, std::move(near));
  const std::array<char, 4096> block{};
  while (::write(watcher.fd(), block.data(), block.size()) > 0) {
  }
  bool called = false;
  watcher.when_writable([&](bool ready) { called = ready; });
  loop.run_for(5ms);
  EXPECT_FALSE(called);
  std::array<char, 4096> sink{};
  while (::recv(far.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_TRUE(loop.run_until([&] { return called; }, kPatience));
}

TEST(FdWatcher, CloseEndsBothWaitsWithFalse) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  FdWatcher watcher(loop, std::move(near));
  std::vector<bool> calls;
  watcher.when_readable([&](bool ready) { calls.push_back(ready); });
  watcher.close();
  watcher.when_writable([&](bool ready) { calls.push_back(ready); });
  ASSERT_TRUE(loop.run_until([&] { return calls.size() == 2; }, kPatience));
  EXPECT_THAT(calls, ElementsAre(false, false));
  char byte = 0;
  EXPECT_EQ(::read(far.get(), &byte, 1), 0);  // the other side sees the end
}

TEST(FdWatcher, DestructionEndsTheWaitWithFalse) {
  EventLoop loop;
  auto [near, far] = socket_pair();
  int calls = 0;
  {
    FdWatcher watcher(loop, std::move(near));
    watcher.when_readable([&](bool ready) { calls += ready ? 100 : 1; });
  }
  EXPECT_EQ(calls, 0);  // never inside the call that ends it
  EXPECT_TRUE(loop.run_until([&] { return calls == 1; }, kPatience));
}

}  // namespace
}  // namespace base
