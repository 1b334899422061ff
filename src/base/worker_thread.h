// SPDX-License-Identifier: Apache-2.0
// Where blocking work goes: one thread that runs functions in order and hands each result back to the event loop.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>

#include "base/async.h"
#include "base/event_loop.h"
#include "base/task.h"

namespace base {

class WorkerThread {
 public:
  WorkerThread(EventLoop& loop, std::string name);  // ps shows the name's first 15 bytes
  ~WorkerThread();                                  // runs what was handed over, then joins
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  // Runs the function on the thread; resumes on the loop with what it returned. Requires a non-void, movable result.
  template <typename Function, typename T = std::invoke_result_t<Function>>
  Task<T> run(Function function) {
    OneShot<T> done(loop_);
    submit([this, done, function = std::move(function)]() mutable {
      auto value = std::make_shared<T>(function());
      loop_.post([done = std::move(done), value = std::move(value)] { done.set(std::move(*value)); });
    });
    co_return co_await done;
  }

 private:
  void submit(std::move_only_function<void()> job);
  void loop();

  EventLoop& loop_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::move_only_function<void()>> jobs_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace base
