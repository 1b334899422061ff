// SPDX-License-Identifier: Apache-2.0
#include "base/worker_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace base {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

constexpr Duration kPatience = 10s;

Task<void> ask_thread_ids(WorkerThread& worker, std::thread::id& job, std::thread::id& after, bool& done) {
  job = co_await worker.run([] { return std::this_thread::get_id(); });
  after = std::this_thread::get_id();
  done = true;
}

TEST(WorkerThread, RunsElsewhereAndResumesOnTheLoop) {
  EventLoop loop;
  WorkerThread worker(loop, "pbt-worker");
  std::thread::id job;
  std::thread::id after;
  bool done = false;
  spawn_detached(ask_thread_ids(worker, job, after, done));
  ASSERT_TRUE(loop.run_until([&] { return done; }, kPatience));
  EXPECT_NE(job, std::this_thread::get_id());
  EXPECT_EQ(after, std::this_thread::get_id());
}

Task<void> collect(WorkerThread& worker, int number, std::vector<int>& results) {
  results.push_back(co_await worker.run([number] { return number; }));
}

TEST(WorkerThread, RunsInOrderOfSubmission) {
  EventLoop loop;
  WorkerThread worker(loop, "pbt-worker");
  std::vector<int> results;
  for (int number = 0; number < 5; ++number) spawn_detached(collect(worker, number, results));
  ASSERT_TRUE(loop.run_until([&] { return results.size() == 5; }, kPatience));
  EXPECT_THAT(results, ElementsAre(0, 1, 2, 3, 4));
}

Task<void> fetch_pointer(WorkerThread& worker, int& result) {
  auto pointer = co_await worker.run([] { return std::make_unique<int>(7); });
  result = *pointer;
}

TEST(WorkerThread, ResultMayBeMoveOnly) {
  EventLoop loop;
  WorkerThread worker(loop, "pbt-worker");
  int result = 0;
  spawn_detached(fetch_pointer(worker, result));
  EXPECT_TRUE(loop.run_until([&] { return result == 7; }, kPatience));
}

Task<void> name_of_thread(WorkerThread& worker, std::string& name) {
  name = co_await worker.run([] {
    std::array<char, 16> buffer{};
    pthread_getname_np(pthread_self(), buffer.data(), buffer.size());
    return std::string(buffer.data());
  });
}

TEST(WorkerThread, BearsItsNameCutToWhatTheKernelKeeps) {
  EventLoop loop;
  WorkerThread worker(loop, "a-name-that-is-too-long");
  std::string name;
  spawn_detached(name_of_thread(worker, name));
  ASSERT_TRUE(loop.run_until([&] { return !name.empty(); }, kPatience));
  EXPECT_EQ(name, "a-name-that-is-");
}

Task<void> count(WorkerThread& worker, std::atomic<int>& jobs, int& resumed) {
  co_await worker.run([&jobs] { return ++jobs; });
  ++resumed;
}

TEST(WorkerThread, DestructionRunsWhatWasHandedOver) {
  EventLoop loop;
  std::atomic<int> jobs = 0;
  int resumed = 0;
  {
    WorkerThread worker(loop, "pbt-worker");
    for (int i = 0; i < 100; ++i) spawn_detached(count(worker, jobs, resumed));
  }
  EXPECT_EQ(jobs, 100);
  EXPECT_TRUE(loop.run_until([&] { return resumed == 100; }, kPatience));
}

}  // namespace
}  // namespace base
