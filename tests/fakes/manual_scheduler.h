// SPDX-License-Identifier: Apache-2.0
// A scheduler whose time moves only when the test says so. Posted functions run in order of posting, timers in order of
// time, and of posting within one time. Starts at a fixed wall time, so that what a test sees never depends on the day.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/scheduler.h"
#include "base/task.h"

namespace fakes {

class ManualScheduler final : public base::Scheduler {
 public:
  // 2026-11-21T09:28:39Z
  static constexpr base::WallTime kStart{std::chrono::seconds(1'795'253'319)};

  base::TimePoint now() const override { return now_; }
  base::WallTime wall_now() const override { return kStart + (now_ - base::TimePoint{}) + wall_offset_; }

  void post(std::move_only_function<void()> function) override { ready_.push_back(std::move(function)); }

  base::TimerId post_at(base::TimePoint when, std::move_only_function<void()> function) override {
    const base::TimerId id = next_timer_++;
    timers_.emplace(std::pair(when, id), std::move(function));
    times_.emplace(id, when);
    return id;
  }

  void cancel(base::TimerId timer) override {
    const auto found = times_.find(timer);
    if (found == times_.end()) return;
    timers_.erase({found->second, timer});
    times_.erase(found);
  }

  // Runs everything that is ready now, and what that makes ready; time stands still.
  void run_ready() {
    for (;;) {
      if (!ready_.empty()) {
        auto function = std::move(ready_.front());
        ready_.pop_front();
        function();
      } else if (!timers_.empty() && timers_.begin()->first.first <= now_) {
        auto node = timers_.extract(timers_.begin());
        times_.erase(node.key().second);
        node.mapped()();
      } else {
        return;
      }
    }
  }

  // Runs everything due until then, each at its own time, and leaves the clock there.
  void run_until(base::TimePoint end) {
    run_ready();
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
      now_ = std::max(now_, timers_.begin()->first.first);
      run_ready();
    }
    now_ = std::max(now_, end);
  }
  void run_for(base::Duration duration) { run_until(now_ + duration); }

  // Moves time on, timer by timer, until the condition holds; false if it does not by then.
  template <typename Condition>
  bool run_until_true(Condition condition, base::Duration at_most = std::chrono::minutes(10)) {
    const base::TimePoint end = now_ + at_most;
    run_ready();
    while (!condition()) {
      if (timers_.empty() || timers_.begin()->first.first > end) return false;
      now_ = std::max(now_, timers_.begin()->first.first);
      run_ready();
    }
    return true;
  }

  // Runs a task to its end, moving time as needed; nothing if it still waits after that long.
  template <typename T>
  std::optional<T> run(base::Task<T> task, base::Duration at_most = std::chrono::minutes(10)) {
    auto slot = std::make_shared<std::optional<T>>();
    base::spawn_detached(store(std::move(task), slot));
    run_until_true([&slot] { return slot->has_value(); }, at_most);
    return std::move(*slot);
  }

  // What a step of the machine's clock does: wall time jumps, delays do not.
  void step_wall_clock(base::Duration by) { wall_offset_ += by; }

  std::size_t pending_timers() const { return timers_.size(); }

 private:
  template <typename T>
  static base::Task<void> store(base::Task<T> task, std::shared_ptr<std::optional<T>> slot) {
    auto value = co_await task;
    slot->emplace(std::move(value));
  }

  base::TimePoint now_{};
  base::Duration wall_offset_{};
  base::TimerId next_timer_ = 1;
  std::deque<std::move_only_function<void()>> ready_;
  std::map<std::pair<base::TimePoint, base::TimerId>, std::move_only_function<void()>> timers_;
  std::map<base::TimerId, base::TimePoint> times_;
};

}  // namespace fakes
