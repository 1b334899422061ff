// SPDX-License-Identifier: Apache-2.0
// What the compiler must get right about coroutines. Each case is one that GCC 12 has got wrong here.
#include "base/task.h"

#include <gtest/gtest.h>

#include "base/async.h"
#include "fakes/manual_scheduler.h"

namespace base {
namespace {

using namespace std::chrono_literals;

// A loop that hands a token by value to a child, again and again. Without -fno-lifetime-dse the second child gets an
// uninitialised copy at -O2.
struct Repeater {
  explicit Repeater(Scheduler& s) : scheduler(s) {}

  Task<bool> child(StopToken stop) {
    while (!stop.stopped()) {
      co_await sleep_for(scheduler, 1s, stop);
      ++rounds;
      co_return true;
    }
    co_return false;
  }

  Task<void> repeat() {
    const StopToken stop = source.token();
    for (;;) {
      const bool again = co_await child(stop);
      if (!again) break;
      OneShot<int> wake(scheduler);
      auto on_stop = stop.on_stop([wake] { wake.set(1); });
      const TimerId timer = scheduler.post_at(scheduler.now() + 1s, [wake] { wake.set(0); });
      const int why = co_await wake;
      scheduler.cancel(timer);
      if (why == 1) break;
      if (why == 2) {
        const bool slept = co_await sleep_until(scheduler, scheduler.now() + 1s, stop);
        if (!slept) break;
      }
    }
    ended = true;
  }

  Scheduler& scheduler;
  StopSource source;
  int rounds = 0;
  bool ended = false;
};

TEST(TaskTest, ByValueParametersOfALoopsChildrenAreWhole) {
  fakes::ManualScheduler scheduler;
  Repeater repeater(scheduler);
  spawn_detached(repeater.repeat());
  scheduler.run_for(20s);
  EXPECT_EQ(repeater.rounds, 10);
  repeater.source.request_stop();
  scheduler.run_for(1s);
  EXPECT_TRUE(repeater.ended);
}

}  // namespace
}  // namespace base
