// SPDX-License-Identifier: Apache-2.0
#include "sim/event_log.h"

#include <fmt/format.h>

namespace sim {

std::string EventLog::format(base::TimePoint when, std::string_view who, std::string_view what) const {
  const auto nanoseconds = when.time_since_epoch().count();
  return fmt::format("{}.{:09} {} {}", nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000, who, what);
}

void EventLog::keep(std::string text) {
  if (echo_) echo_(text);
  if (last_.size() == kKept) last_.pop_front();
  last_.push_back(std::move(text));
}

void EventLog::line(base::TimePoint when, std::string_view who, std::string_view what) {
  auto text = format(when, who, what);
  hash_ = fnv1a("\n", fnv1a(text, hash_));
  ++count_;
  keep(std::move(text));
}

void EventLog::remark(base::TimePoint when, std::string_view who, std::string_view what) {
  keep(format(when, who, what));
}

}  // namespace sim
