// SPDX-License-Identifier: Apache-2.0
#include "base/async.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fakes/manual_scheduler.h"

namespace base {
namespace {

using fakes::ManualScheduler;
using testing::ElementsAre;
using namespace std::chrono_literals;

template <typename T>
Task<void> store(Task<T> task, std::optional<T>& result) {
  result.emplace(co_await task);
}

Task<int> immediate(int value) { co_return value; }

Task<void> sum_many(int count, long& sum) {
  for (int i = 0; i < count; ++i) sum += co_await immediate(1);
}

TEST(Task, AMillionAwaitsThatNeverSuspendNeedNoStack) {
  long sum = 0;
  spawn_detached(sum_many(1'000'000, sum));
  EXPECT_EQ(sum, 1'000'000);
}

Task<int> deep(int depth, OneShot<int> bottom) {
  if (depth == 0) co_return co_await bottom;
  co_return 1 + co_await deep(depth - 1, bottom);
}

TEST(Task, ResultsTravelUpThroughSuspendedCallers) {
  ManualScheduler scheduler;
  OneShot<int> bottom(scheduler);
  std::optional<int> result;
  spawn_detached(store(deep(50, bottom), result));
  EXPECT_FALSE(result);
  bottom.set(1000);
  scheduler.run_ready();
  EXPECT_EQ(result, 1050);
}

Task<void> note(std::vector<int>& order, int number) {
  order.push_back(number);
  co_return;
}

TEST(Task, StartsWhenAwaitedNotWhenCalled) {
  std::vector<int> order;
  auto task = note(order, 2);
  order.push_back(1);
  spawn_detached(std::move(task));
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST(Task, NeverAwaitedFreesItsArguments) {
  auto kept = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = kept;
  {
    const auto hold = [](std::shared_ptr<int> argument) -> Task<int> { co_return *argument; };
    const auto task = hold(std::move(kept));
  }
  EXPECT_TRUE(watch.expired());
}

Task<void> hold_until(std::shared_ptr<int> kept, OneShot<bool> gate) {
  co_await gate;
  ++*kept;
}

TEST(Task, DetachedFreesItselfAtItsEnd) {
  ManualScheduler scheduler;
  OneShot<bool> gate(scheduler);
  auto kept = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = kept;
  spawn_detached(hold_until(std::move(kept), gate));
  EXPECT_FALSE(watch.expired());
  gate.set(true);
  scheduler.run_ready();
  EXPECT_TRUE(watch.expired());
}

Task<void> await_into(OneShot<std::string> shot, std::optional<std::string>& result) { result = co_await shot; }

TEST(OneShot, ValueSetBeforeTheAwaitIsGivenAtOnce) {
  ManualScheduler scheduler;
  const OneShot<std::string> shot(scheduler);
  EXPECT_TRUE(shot.set("early"));
  EXPECT_TRUE(shot.settled());
  std::optional<std::string> result;
  spawn_detached(await_into(shot, result));
  EXPECT_EQ(result, "early");
}

TEST(OneShot, WaiterResumesFromTheSchedulerNotInsideSet) {
  ManualScheduler scheduler;
  const OneShot<std::string> shot(scheduler);
  std::optional<std::string> result;
  spawn_detached(await_into(shot, result));
  shot.set("late");
  EXPECT_EQ(result, std::nullopt);
  scheduler.run_ready();
  EXPECT_EQ(result, "late");
}

TEST(OneShot, FirstValueWins) {
  ManualScheduler scheduler;
  const OneShot<std::string> shot(scheduler);
  std::optional<std::string> result;
  spawn_detached(await_into(shot, result));
  EXPECT_TRUE(shot.set("first"));
  EXPECT_FALSE(shot.set("second"));
  scheduler.run_ready();
  EXPECT_FALSE(shot.set("third"));
  scheduler.run_ready();
  EXPECT_EQ(result, "first");
}

TEST(AwaitUntil, ResultBeforeTheDeadlineCancelsTheTimer) {
  ManualScheduler scheduler;
  const OneShot<Result<int>> shot(scheduler);
  std::optional<Result<int>> result;
  spawn_detached(store(await_until(scheduler, shot, scheduler.now() + 1s, {}), result));
  EXPECT_EQ(scheduler.pending_timers(), 1U);
  shot.set(5);
  scheduler.run_ready();
  EXPECT_EQ(result->value(), 5);
  EXPECT_EQ(scheduler.pending_timers(), 0U);
}

TEST(AwaitUntil, DeadlinePassed) {
  ManualScheduler scheduler;
  std::optional<Result<int>> result;
  spawn_detached(store(await_until(scheduler, OneShot<Result<int>>(scheduler), scheduler.now() + 1s, {}), result));
  scheduler.run_for(999ms);
  EXPECT_FALSE(result);
  scheduler.run_for(1ms);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->error().code(), Code::deadline_exceeded);
}

TEST(AwaitUntil, StoppedWithoutADeadline) {
  ManualScheduler scheduler;
  StopSource stop;
  std::optional<Result<int>> result;
  spawn_detached(store(await_until(scheduler, OneShot<Result<int>>(scheduler), kNoDeadline, stop.token()), result));
  EXPECT_EQ(scheduler.pending_timers(), 0U);
  stop.request_stop();
  scheduler.run_ready();
  EXPECT_EQ(result->error().code(), Code::cancelled);
}

TEST(Sleep, EndsWhenTheTimeHasCome) {
  ManualScheduler scheduler;
  std::optional<bool> slept;
  spawn_detached(store(sleep_for(scheduler, 3s, {}), slept));
  scheduler.run_for(3s - 1ns);
  EXPECT_EQ(slept, std::nullopt);
  scheduler.run_for(1ns);
  EXPECT_EQ(slept, true);
}

TEST(Sleep, EndsEarlyWhenStoppedAndLeavesNoTimer) {
  ManualScheduler scheduler;
  StopSource stop;
  std::optional<bool> slept;
  spawn_detached(store(sleep_for(scheduler, 3s, stop.token()), slept));
  stop.request_stop();
  scheduler.run_ready();
  EXPECT_EQ(slept, false);
  EXPECT_EQ(scheduler.pending_timers(), 0U);
}

struct Visit {
  std::string name;
  TimePoint deadline = kNoDeadline;
  StopToken stop;
};

// Takes the mutex, keeps it for a second, and notes what happened.
Task<void> visit(AsyncMutex& mutex, Scheduler& scheduler, std::vector<std::string>& events, Visit& who) {
  const auto guard = co_await mutex.lock(who.deadline, who.stop);
  if (!guard) {
    events.push_back(who.name + " " + std::string(name_of(guard.error().code())));
    co_return;
  }
  events.push_back(who.name + " in");
  co_await sleep_for(scheduler, 1s, {});
  events.push_back(who.name + " out");
}

TEST(AsyncMutex, OneAtATimeFirstComeFirstServed) {
  ManualScheduler scheduler;
  AsyncMutex mutex(scheduler);
  std::vector<std::string> events;
  std::vector<Visit> visits{{"a", kNoDeadline, {}}, {"b", kNoDeadline, {}}, {"c", kNoDeadline, {}}};
  for (auto& who : visits) spawn_detached(visit(mutex, scheduler, events, who));
  EXPECT_FALSE(mutex.idle());
  scheduler.run_for(1min);
  EXPECT_THAT(events, ElementsAre("a in", "a out", "b in", "b out", "c in", "c out"));
  EXPECT_TRUE(mutex.idle());
}

TEST(AsyncMutex, WaiterPastItsDeadlineIsPassedOver) {
  ManualScheduler scheduler;
  AsyncMutex mutex(scheduler);
  std::vector<std::string> events;
  std::vector<Visit> visits{{"a", kNoDeadline, {}}, {"b", scheduler.now() + 500ms, {}}, {"c", kNoDeadline, {}}};
  for (auto& who : visits) spawn_detached(visit(mutex, scheduler, events, who));
  scheduler.run_for(1min);
  EXPECT_THAT(events, ElementsAre("a in", "b DeadlineExceeded", "a out", "c in", "c out"));
  EXPECT_TRUE(mutex.idle());
}

TEST(AsyncMutex, StoppedWaiterGivesUp) {
  ManualScheduler scheduler;
  AsyncMutex mutex(scheduler);
  std::vector<std::string> events;
  StopSource stop;
  std::vector<Visit> visits{{"a", kNoDeadline, {}}, {"b", kNoDeadline, stop.token()}};
  for (auto& who : visits) spawn_detached(visit(mutex, scheduler, events, who));
  stop.request_stop();
  scheduler.run_for(1min);
  EXPECT_THAT(events, ElementsAre("a in", "b Canceled", "a out"));
  EXPECT_TRUE(mutex.idle());
}

// The turn was given at the very time of the deadline: whoever loses that race, the mutex must not stay locked.
TEST(AsyncMutex, DeadlineAtTheMomentOfTheTurnLosesNothing) {
  ManualScheduler scheduler;
  AsyncMutex mutex(scheduler);
  std::vector<std::string> events;
  std::vector<Visit> visits{{"a", kNoDeadline, {}}, {"b", scheduler.now() + 1s, {}}};
  for (auto& who : visits) spawn_detached(visit(mutex, scheduler, events, who));
  scheduler.run_for(1min);
  EXPECT_TRUE(mutex.idle());
  EXPECT_EQ(events.front(), "a in");
}

Task<void> drain(AsyncQueue<int>& queue, std::vector<int>& items, bool& ended) {
  while (auto item = co_await queue.pop()) items.push_back(*item);
  ended = true;
}

TEST(AsyncQueue, ReaderGetsEachItemInOrder) {
  ManualScheduler scheduler;
  AsyncQueue<int> queue(scheduler);
  std::vector<int> items;
  bool ended = false;
  queue.push(1);
  spawn_detached(drain(queue, items, ended));
  queue.push(2);
  queue.push(3);
  scheduler.run_ready();
  EXPECT_THAT(items, ElementsAre(1, 2, 3));
  EXPECT_FALSE(ended);
  queue.close();
  scheduler.run_ready();
  EXPECT_TRUE(ended);
}

TEST(AsyncQueue, WhatWasThereAtCloseIsStillRead) {
  ManualScheduler scheduler;
  AsyncQueue<int> queue(scheduler);
  queue.push(1);
  queue.close();
  queue.push(2);
  std::vector<int> items;
  bool ended = false;
  spawn_detached(drain(queue, items, ended));
  EXPECT_THAT(items, ElementsAre(1));
  EXPECT_TRUE(ended);
}

Task<void> until_stopped(Scheduler& scheduler, StopToken stop, int& ended) {
  bool slept = true;
  while (slept) slept = co_await sleep_for(scheduler, 1s, stop);
  ++ended;
}

Task<void> finish(TaskScope& scope, int& finished) {
  co_await scope.finish();
  ++finished;
}

TEST(TaskScope, FinishStopsTheTasksAndWaitsForTheLast) {
  ManualScheduler scheduler;
  TaskScope scope(scheduler);
  int ended = 0;
  int finished = 0;
  for (int i = 0; i < 3; ++i) scope.spawn(until_stopped(scheduler, scope.stop_token(), ended));
  EXPECT_EQ(scope.running(), 3U);
  spawn_detached(finish(scope, finished));
  EXPECT_EQ(finished, 0);
  scheduler.run_ready();
  EXPECT_EQ(ended, 3);
  EXPECT_EQ(finished, 1);
  EXPECT_EQ(scope.running(), 0U);
}

TEST(TaskScope, FinishOfAnEmptyScopeReturnsAtOnce) {
  ManualScheduler scheduler;
  TaskScope scope(scheduler);
  int finished = 0;
  spawn_detached(finish(scope, finished));
  EXPECT_EQ(finished, 1);
}

TEST(TaskScope, TwoMayWaitForTheEnd) {
  ManualScheduler scheduler;
  TaskScope scope(scheduler);
  int ended = 0;
  int finished = 0;
  scope.spawn(until_stopped(scheduler, scope.stop_token(), ended));
  spawn_detached(finish(scope, finished));
  spawn_detached(finish(scope, finished));
  scheduler.run_ready();
  EXPECT_EQ(finished, 2);
}

Task<void> spawn_another(TaskScope& scope, Scheduler& scheduler, int& ended) {
  co_await sleep_for(scheduler, 1s, scope.stop_token());
  scope.spawn(until_stopped(scheduler, scope.stop_token(), ended));
  ++ended;
}

TEST(TaskScope, TaskSpawnedWhileFinishingIsWaitedForToo) {
  ManualScheduler scheduler;
  TaskScope scope(scheduler);
  int ended = 0;
  int finished = 0;
  scope.spawn(spawn_another(scope, scheduler, ended));
  spawn_detached(finish(scope, finished));
  scheduler.run_ready();
  EXPECT_EQ(ended, 2);
  EXPECT_EQ(finished, 1);
}

TEST(SaturatingAdd, ForEverStaysForEver) {
  const TimePoint now{1h};
  EXPECT_EQ(saturating_add(now, Duration::max()), kNoDeadline);
  EXPECT_EQ(saturating_add(now, 1s), TimePoint{1h + 1s});
  EXPECT_EQ(saturating_add(now, -1s), TimePoint{1h - 1s});
}

}  // namespace
}  // namespace base
