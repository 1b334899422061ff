// SPDX-License-Identifier: Apache-2.0
// The process's log: one line an event, to standard error, thread-safe. Level names are NSM's (logrus): trace ...
// panic.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace base::log {

enum class Level { trace, debug, info, warning, error, fatal, off };

Result<Level> parse_level(std::string_view name);  // case-insensitive; warn and warning, fatal and panic are the same

void set_level(Level level);
Level level();
void set_name(std::string_view component);  // printed in front of every line

// Sends lines to the function instead of standard error; an empty function restores it. For tests and the simulator.
void set_sink(std::function<void(Level, std::string_view)> sink);

void write(Level level, std::string_view line);

template <typename... Args>
void write_formatted(Level at, fmt::format_string<Args...> format, Args&&... args) {
  if (at >= level()) write(at, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void trace(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::trace, format, std::forward<Args>(args)...);
}
template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::debug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::info, format, std::forward<Args>(args)...);
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::warning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::error, format, std::forward<Args>(args)...);
}

}  // namespace base::log
