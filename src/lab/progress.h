// SPDX-License-Identifier: Apache-2.0
// What the lab is doing, while it does it: one line a step on standard error, with the seconds since the start.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

namespace lab {

class Progress {
 public:
  template <typename... Args>
  void step(fmt::format_string<Args...> format, Args&&... args) const {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    const std::string line =
        fmt::format("[{:6.2f} s] {}\n", elapsed.count(), fmt::format(format, std::forward<Args>(args)...));
    std::fputs(line.c_str(), stderr);
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace lab
