// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

namespace base::log {

namespace {

std::atomic<Level> current_level{Level::info};
std::function<void(Level, std::string_view)> custom_sink;

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("patchbay", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %n: %v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::trace:
      return spdlog::level::trace;
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
    case Level::fatal:
      return spdlog::level::critical;
    case Level::off:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

}  // namespace

Result<Level> parse_level(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "trace") return Level::trace;
  if (lower == "debug") return Level::debug;
  if (lower == "info") return Level::info;
  if (lower == "warn" || lower == "warning") return Level::warning;
  if (lower == "error") return Level::error;
  if (lower == "fatal" || lower == "panic") return Level::fatal;
  return fail(Code::invalid_argument,
              "log level '{}' is unknown: use trace, debug, info, warning, error, fatal or panic", name);
}

void set_level(Level level) { current_level.store(level, std::memory_order_relaxed); }
Level level() { return current_level.load(std::memory_order_relaxed); }

void set_name(std::string_view component) {
  logger().set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l " + std::string(component) + ": %v");
}

void set_sink(std::function<void(Level, std::string_view)> sink) { custom_sink = std::move(sink); }

namespace {

// Names that peers give themselves must not look like lines of ours.
std::string printable(std::string_view line) {
  std::string out(line);
  std::ranges::replace_if(out, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return out;
}

}  // namespace

void write(Level level, std::string_view line) {
  if (custom_sink) {
    custom_sink(level, line);
    return;
  }
  logger().log(to_spdlog(level), printable(line));
}

}  // namespace base::log
