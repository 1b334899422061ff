// SPDX-License-Identifier: Apache-2.0
// The few things coroutines wait for. All single-threaded; a waiter resumes from the scheduler, never inside the call
// that woke it, so that order is the scheduler's to decide.
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/scheduler.h"
#include "base/stop.h"
#include "base/task.h"

namespace base {

// One value, set once, awaited by at most one coroutine. Copies share the value: give one to whoever will set it.
template <typename T>
class OneShot {
 public:
  explicit OneShot(Scheduler& scheduler) : state_(std::make_shared<State>(scheduler)) {}

  // The first value wins; later ones are dropped and false returned.
  bool set(T value) const {
    if (settled()) return false;
    state_->value.emplace(std::move(value));
    if (state_->waiter) {
      state_->scheduler.post([state = state_] { std::exchange(state->waiter, nullptr).resume(); });
    }
    return true;
  }

  // Whether a value was ever set.
  bool settled() const { return state_->value.has_value() || state_->taken; }

  struct Awaiter;
  Awaiter operator co_await() const { return Awaiter{state_}; }

 private:
  struct State {
    explicit State(Scheduler& s) : scheduler(s) {}
    Scheduler& scheduler;
    std::optional<T> value;
    bool taken = false;
    std::coroutine_handle<> waiter;
  };
  std::shared_ptr<State> state_;

 public:
  struct Awaiter {
    std::shared_ptr<State> state;
    bool await_ready() const noexcept { return state->value.has_value(); }
    void await_suspend(std::coroutine_handle<> waiter) const noexcept { state->waiter = waiter; }
    T await_resume() const {
      state->taken = true;
      T value = std::move(*state->value);
      state->value.reset();
      return value;
    }
  };
};

// Awaits a result until the deadline or a stop, whichever is first.
template <typename T>
Task<Result<T>> await_until(Scheduler& scheduler, OneShot<Result<T>> result, TimePoint deadline, StopToken stop) {
  TimerId timer = 0;
  if (deadline != kNoDeadline) {
    timer = scheduler.post_at(deadline, [result] { result.set(fail(Code::deadline_exceeded, "the deadline passed")); });
  }
  auto registration = stop.on_stop([result] { result.set(fail(Code::cancelled, "the call was cancelled")); });
  Result<T> outcome = co_await result;
  scheduler.cancel(timer);
  co_return outcome;
}

// Waits until the time, or less if stopped; returns whether the time has come.
inline Task<bool> sleep_until(Scheduler& scheduler, TimePoint when, StopToken stop) {
  OneShot<bool> done(scheduler);
  const TimerId timer = scheduler.post_at(when, [done] { done.set(true); });
  auto registration = stop.on_stop([done] { done.set(false); });
  const bool slept = co_await done;
  scheduler.cancel(timer);
  co_return slept;
}

inline Task<bool> sleep_for(Scheduler& scheduler, Duration delay, StopToken stop) {
  return sleep_until(scheduler, saturating_add(scheduler.now(), delay), std::move(stop));
}

// First come, first served. A waiter gives up at its deadline or when stopped.
class AsyncMutex {
 public:
  explicit AsyncMutex(Scheduler& scheduler) : scheduler_(scheduler) {}

  class [[nodiscard]] Guard {
   public:
    explicit Guard(AsyncMutex& mutex) : mutex_(&mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->unlock();
    }

   private:
    AsyncMutex* mutex_;
  };

  // The mutex must outlive the guard. Errors: deadline_exceeded, cancelled.
  Task<Result<Guard>> lock(TimePoint deadline, StopToken stop) {
    if (!std::exchange(locked_, true)) co_return Guard(*this);
    OneShot<Result<Guard>> turn(scheduler_);
    waiters_.push_back(turn);
    co_return co_await await_until<Guard>(scheduler_, turn, deadline, std::move(stop));
  }

  bool idle() const { return !locked_; }

 private:
  void unlock() {
    while (!waiters_.empty()) {
      auto next = std::move(waiters_.front());
      waiters_.pop_front();
      if (!next.settled()) {
        next.set(Guard(*this));
        return;
      }
    }
    locked_ = false;
  }

  Scheduler& scheduler_;
  bool locked_ = false;
  std::deque<OneShot<Result<Guard>>> waiters_;
};

// An unbounded queue with one reader. After close() the reader gets what is left, then nothing.
template <typename T>
class AsyncQueue {
 public:
  explicit AsyncQueue(Scheduler& scheduler) : scheduler_(scheduler) {}

  void push(T value) {
    if (closed_) return;
    items_.push_back(std::move(value));
    wake();
  }
  void close() {
    closed_ = true;
    wake();
  }
  bool closed() const { return closed_; }
  std::size_t size() const { return items_.size(); }

  struct Awaiter {
    AsyncQueue& queue;
    bool await_ready() const noexcept { return !queue.items_.empty() || queue.closed_; }
    void await_suspend(std::coroutine_handle<> waiter) const { queue.waiter_ = waiter; }
    std::optional<T> await_resume() const {
      if (queue.items_.empty()) return std::nullopt;
      std::optional<T> value(std::move(queue.items_.front()));
      queue.items_.pop_front();
      return value;
    }
  };
  Awaiter pop() { return Awaiter{*this}; }

 private:
  void wake() {
    if (!waiter_) return;
    scheduler_.post([waiter = std::exchange(waiter_, nullptr)] { waiter.resume(); });
  }

  Scheduler& scheduler_;
  std::deque<T> items_;
  bool closed_ = false;
  std::coroutine_handle<> waiter_;
};

// Background tasks with an owner: the owner asks them to stop and waits until the last has ended.
class TaskScope {
 public:
  explicit TaskScope(Scheduler& scheduler) : scheduler_(scheduler), state_(std::make_shared<State>()) {}
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;

  // Starts the task now; it runs up to its first suspension inside this call.
  void spawn(Task<void> task) {
    ++state_->running;
    spawn_detached(run(std::move(task), state_));
  }

  StopToken stop_token() const { return stop_.token(); }
  void request_stop() { stop_.request_stop(); }
  std::size_t running() const { return state_->running; }

  // Asks every task to stop and returns when all have ended.
  Task<void> finish() {
    stop_.request_stop();
    while (state_->running > 0) {
      OneShot<bool> ended(scheduler_);
      state_->on_end.push_back(ended);
      co_await ended;
    }
  }

 private:
  struct State {
    std::size_t running = 0;
    std::vector<OneShot<bool>> on_end;
  };
  static Task<void> run(Task<void> task, std::shared_ptr<State> state) {
    co_await task;
    if (--state->running > 0) co_return;
    for (const auto& ended : std::exchange(state->on_end, {})) ended.set(true);
  }

  Scheduler& scheduler_;
  StopSource stop_;
  std::shared_ptr<State> state_;
};

}  // namespace base
