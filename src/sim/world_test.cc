// SPDX-License-Identifier: Apache-2.0
#include "sim/world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/log.h"

namespace sim {
namespace {

TEST(World, RunsTimersInOrderOfTimeWithoutWaiting) {
  World world(1);
  Process& process = world.spawn("n", "p");
  std::vector<int> order;
  process.post_at(world.now() + hours(30), [&] { order.push_back(3); });
  process.post_at(world.now() + seconds(1), [&] { order.push_back(2); });
  process.post([&] { order.push_back(1); });
  world.run_for(hours(31));
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TEST(World, KeepsAProcessesOwnOrder) {
  World world(7);
  std::vector<std::vector<int>> seen(5);
  for (int p = 0; p < 5; ++p) {
    Process& process = world.spawn("n", "p" + std::to_string(p));
    for (int i = 0; i < 20; ++i) process.post([&seen, p, i] { seen[p].push_back(i); });
  }
  world.run_for(seconds(1));
  for (const auto& own : seen) {
    ASSERT_EQ(own.size(), 20U);
    EXPECT_TRUE(std::ranges::is_sorted(own));
  }
}

std::string interleaving(std::uint64_t seed) {
  World world(seed);
  std::string order;
  for (char name = 'a'; name < 'e'; ++name) {
    Process& process = world.spawn("n", std::string(1, name));
    for (int i = 0; i < 5; ++i) process.post([&order, name] { order += name; });
  }
  world.run_for(seconds(1));
  return order;
}

TEST(World, SeedDecidesBetweenProcesses) {
  EXPECT_EQ(interleaving(3), interleaving(3));
  std::set<std::string> orders;
  for (std::uint64_t seed = 0; seed < 20; ++seed) orders.insert(interleaving(seed));
  EXPECT_GT(orders.size(), 10U);
}

TEST(World, CancelledTimerDoesNotRunEvenWhenItIsDue) {
  World world(1);
  Process& process = world.spawn("n", "p");
  const auto when = world.now() + seconds(1);
  bool ran = false;
  base::TimerId second = 0;
  process.post_at(when, [&] { process.cancel(second); });
  second = process.post_at(when, [&] { ran = true; });
  world.run_for(seconds(2));
  EXPECT_FALSE(ran);
}

TEST(World, WallClockJumpsAndTimersDoNotNotice) {
  World world(1);
  Process& process = world.spawn("n", "p");
  const auto before = process.wall_now();
  process.jump_wall_clock(-minutes(5));
  EXPECT_EQ(process.wall_now(), before - minutes(5));
  bool ran = false;
  process.post_at(world.now() + seconds(1), [&] { ran = true; });
  world.run_for(seconds(1));
  EXPECT_TRUE(ran);
}

TEST(World, PausedProcessRunsNothingAndThenEverything) {
  World world(1);
  Process& process = world.spawn("n", "p");
  std::vector<base::TimePoint> times;
  const auto start = world.now();
  process.post_at(start + seconds(1), [&] { times.push_back(world.now()); });
  process.post_at(start + seconds(2), [&] { times.push_back(world.now()); });
  process.pause_until(start + seconds(5));
  process.pause_until(start + seconds(5));  // two wake-ups at one time
  world.run_for(seconds(4));
  EXPECT_TRUE(times.empty());
  world.run_for(seconds(4));
  EXPECT_EQ(times, (std::vector{start + seconds(5), start + seconds(5)}));
}

TEST(World, ReportsLivelock) {
  World world(1);
  Process& process = world.spawn("n", "spinner");
  std::function<void()> spin = [&] { process.post([&] { spin(); }); };
  spin();
  world.run_for(seconds(1));
  ASSERT_TRUE(world.violation());
  EXPECT_NE(world.violation()->find("without time passing"), std::string::npos);
}

TEST(World, InvariantIsCheckedAfterEveryEventAndTheFirstViolationStops) {
  World world(1);
  Process& process = world.spawn("n", "p");
  int value = 0;
  world.add_invariant([&] {
    if (value == 3) world.violate("value is 3");
  });
  for (int i = 0; i < 10; ++i) process.post([&] { ++value; });
  world.run_for(seconds(1));
  EXPECT_EQ(value, 3);
  EXPECT_EQ(world.violation(), "value is 3");
  EXPECT_NE(world.log().last().back().find("VIOLATION value is 3"), std::string::npos);
}

// Waits for ever, in a task of its own; ends when asked to.
class Sleeper final : public Program {
 public:
  Sleeper(Process& process, bool& destroyed) : process_(process), destroyed_(destroyed), tasks_(process) {
    tasks_.spawn(sleep());
  }
  ~Sleeper() override { destroyed_ = true; }
  base::Task<void> finish() override { co_await tasks_.finish(); }

 private:
  base::Task<void> sleep() {
    bool asleep = true;
    while (asleep) asleep = co_await base::sleep_for(process_, hours(1000), tasks_.stop_token());
  }
  Process& process_;
  bool& destroyed_;
  base::TaskScope tasks_;
};

TEST(Process, KilledOneUnwindsAsAZombie) {
  World world(1);
  Process& process = world.spawn("n", "p");
  bool destroyed = false;
  bool told = false;
  process.run(std::make_unique<Sleeper>(process, destroyed));
  process.on_death([&] { told = true; });
  world.run_for(seconds(1));
  world.kill(process);
  EXPECT_TRUE(told);
  EXPECT_FALSE(process.alive());
  EXPECT_FALSE(destroyed);
  EXPECT_EQ(world.unfinished(), 1U);
  world.run_for(seconds(1));
  EXPECT_TRUE(destroyed);
  EXPECT_EQ(world.unfinished(), 0U);
}

TEST(Process, TerminatedOneEndsItselfAndThenDies) {
  World world(1);
  Process& process = world.spawn("n", "p");
  bool destroyed = false;
  bool destroyed_before_death = false;
  process.run(std::make_unique<Sleeper>(process, destroyed));
  process.on_death([&] { destroyed_before_death = destroyed; });
  world.terminate(process);
  EXPECT_TRUE(process.alive());
  world.run_for(seconds(1));
  EXPECT_FALSE(process.alive());
  EXPECT_TRUE(destroyed_before_death);
}

class Stubborn final : public Program {
 public:
  explicit Stubborn(Process& process) : never_(process) {}
  base::Task<void> finish() override { co_await never_; }
  void release() { never_.set(true); }

 private:
  base::OneShot<bool> never_;
};

TEST(Process, OneThatDoesNotEndIsAViolation) {
  World world(1);
  Process& process = world.spawn("n", "stubborn");
  auto program = std::make_unique<Stubborn>(process);
  Stubborn& stubborn = *program;
  process.run(std::move(program));
  world.finish();
  ASSERT_TRUE(world.violation());
  EXPECT_NE(world.violation()->find("stubborn#1 does not end"), std::string::npos);
  stubborn.release();
  while (world.step(world.now() + seconds(1))) {
  }
  EXPECT_EQ(world.unfinished(), 0U);
}

TEST(EventLog, HashesInfoAndWhatIsGraverOfTheLivingAlone) {
  World world(1);
  Process& process = world.spawn("n", "p");
  base::log::set_level(base::log::Level::trace);
  const auto before = world.log().count();
  process.post([] {
    base::log::trace("not counted");
    base::log::info("counted");
  });
  world.run_for(seconds(1));
  EXPECT_EQ(world.log().count(), before + 1);
  world.kill(process);
  const auto after_kill = world.log().count();
  process.post([] { base::log::error("last words"); });
  world.run_for(seconds(1));
  EXPECT_EQ(world.log().count(), after_kill);
  base::log::set_level(base::log::Level::info);
}

TEST(EventLog, KeepsTheLastLines) {
  EventLog log;
  for (int i = 0; i < 300; ++i) log.line(base::TimePoint(seconds(i)), "p", std::to_string(i));
  ASSERT_EQ(log.last().size(), EventLog::kKept);
  EXPECT_EQ(log.last().front(), "100.000000000 p 100");
  EXPECT_EQ(log.count(), 300U);
}

TEST(EventLog, HashIsFnv1a) {
  EXPECT_EQ(fnv1a(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(fnv1a("foobar"), 0x85944171f73967e8ULL);  // from the function's reference page
}

}  // namespace
}  // namespace sim
