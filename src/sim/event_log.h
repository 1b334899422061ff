// SPDX-License-Identifier: Apache-2.0
// What happened in a simulated world, a line an event. The hash over all lines is the run's fingerprint: two runs of
// one seed that differ in a byte differ in it. The last lines are kept for printing beside a violation.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

#include "base/scheduler.h"

namespace sim {

inline constexpr std::uint64_t kFnvBasis = 14695981039346656037ULL;  // FNV-1a, 64 bits

constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = kFnvBasis) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

// Not thread-safe: a world is one thread's.
class EventLog {
 public:
  static constexpr std::size_t kKept = 200;

  // Part of the fingerprint.
  void line(base::TimePoint when, std::string_view who, std::string_view what);
  // Shown but not part of the fingerprint: what depends on the log level.
  void remark(base::TimePoint when, std::string_view who, std::string_view what);

  std::uint64_t hash() const { return hash_; }
  std::uint64_t count() const { return count_; }
  const std::deque<std::string>& last() const { return last_; }

  // Also hands every line to the function, as it comes.
  void echo(std::function<void(std::string_view)> to) { echo_ = std::move(to); }

 private:
  std::string format(base::TimePoint when, std::string_view who, std::string_view what) const;
  void keep(std::string text);

  std::uint64_t hash_ = kFnvBasis;
  std::uint64_t count_ = 0;
  std::deque<std::string> last_;
  std::function<void(std::string_view)> echo_;
};

}  // namespace sim
