// SPDX-License-Identifier: Apache-2.0
// What control-plane code may know of time and order. Real life: EventLoop. The simulator: virtual time, seeded order.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace base {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;  // monotonic: delays, deadlines
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;   // what tokens and registrations carry

inline constexpr TimePoint kNoDeadline = TimePoint::max();

using TimerId = std::uint64_t;  // 0 is no timer

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  virtual TimePoint now() const = 0;
  virtual WallTime wall_now() const = 0;

  // Runs the function later, never inside this call. In order of posting.
  virtual void post(std::move_only_function<void()> function) = 0;

  // Runs the function at the given time or soon after. A time gone by means soon.
  virtual TimerId post_at(TimePoint when, std::move_only_function<void()> function) = 0;

  // The function will not run. Unknown ids and timers that have run are ignored.
  virtual void cancel(TimerId timer) = 0;
};

// One pending call, cancelled when dropped or set anew. The scheduler must outlive it.
class Timer {
 public:
  explicit Timer(Scheduler& scheduler) : scheduler_(scheduler) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void set(TimePoint when, std::move_only_function<void()> function) {
    cancel();
    id_ = scheduler_.post_at(when, std::move(function));
  }
  void cancel() {
    if (id_ != 0) scheduler_.cancel(id_);
    id_ = 0;
  }

 private:
  Scheduler& scheduler_;
  TimerId id_ = 0;
};

// now + delay, without overflowing for "for ever".
inline TimePoint saturating_add(TimePoint start, Duration delay) {
  return delay > kNoDeadline - start ? kNoDeadline : start + delay;
}

}  // namespace base
