// SPDX-License-Identifier: Apache-2.0
// The real scheduler: one thread, one loop (Asio on epoll). Everything but post() belongs to the thread that runs it.
#pragma once

#include <csignal>
#include <functional>
#include <initializer_list>
#include <memory>

#include "base/result.h"
#include "base/scheduler.h"
#include "base/stop.h"
#include "base/task.h"
#include "base/unique_fd.h"

namespace base {

class EventLoop final : public Scheduler {
 public:
  EventLoop();
  ~EventLoop() override;

  TimePoint now() const override;
  WallTime wall_now() const override;
  void post(std::move_only_function<void()> function) override;  // from any thread
  TimerId post_at(TimePoint when, std::move_only_function<void()> function) override;
  void cancel(TimerId timer) override;

  // Runs until quit(), also while there is nothing to do.
  void run();
  // Runs for this long, or until quit(); for tests.
  void run_for(Duration how_long);
  // Runs until the condition holds, looking after each event; false if that took too long. For tests.
  bool run_until(const std::function<bool()>& condition, Duration at_most);
  void quit();

  // Calls back on each of these signals until the loop ends.
  void on_signals(std::initializer_list<int> signals, std::function<void(int)> callback);

  // The Asio context, for src/base alone.
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// A descriptor the loop watches. Owns it. One waiter for reading and one for writing at a time.
class FdWatcher {
 public:
  FdWatcher(EventLoop& loop, UniqueFd fd);  // makes it non-blocking
  ~FdWatcher();
  FdWatcher(const FdWatcher&) = delete;
  FdWatcher& operator=(const FdWatcher&) = delete;

  int fd() const;
  // Calls back once when the descriptor can be read (written), or when close() ends the wait: then with false.
  void when_readable(std::move_only_function<void(bool)> callback);
  void when_writable(std::move_only_function<void(bool)> callback);
  // Ends both waits and closes the descriptor.
  void close();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace base
