// SPDX-License-Identifier: Apache-2.0
// What the tests of this folder share: a loop, a scratch directory, tasks run to their end.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/async.h"
#include "base/event_loop.h"
#include "rpc/descriptor.h"

namespace rpc::testing {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    char pattern[] = "/tmp/pbt-rpc-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A file in memory with a key of its own.
inline Descriptor memory_file(const std::string& content = "file") {
  base::UniqueFd fd(static_cast<int>(::syscall(SYS_memfd_create, "pbt-rpc", 1U)));
  if (::write(fd.get(), content.data(), content.size()) < 0) std::abort();
  return *Descriptor::adopt(std::move(fd));
}

inline void run_until(base::EventLoop& loop, const std::function<bool()>& done, base::Duration at_most) {
  const auto end = loop.now() + at_most;
  while (!done() && loop.now() < end) loop.run_for(std::chrono::milliseconds(1));
}

template <typename T>
base::Task<void> store(base::Task<T> task, std::shared_ptr<std::optional<T>> into) {
  into->emplace(co_await task);
}

template <typename T>
std::shared_ptr<std::optional<T>> begin(base::Task<T> task) {
  auto result = std::make_shared<std::optional<T>>();
  base::spawn_detached(store(std::move(task), result));
  return result;
}

template <typename T>
T wait(base::EventLoop& loop, const std::shared_ptr<std::optional<T>>& result) {
  run_until(loop, [&] { return result->has_value(); }, std::chrono::seconds(20));
  if (!result->has_value()) {
    ADD_FAILURE() << "a task did not end";
    std::abort();
  }
  return std::move(**result);
}

template <typename T>
T wait(base::EventLoop& loop, base::Task<T> task) {
  return wait(loop, begin(std::move(task)));
}

inline std::size_t open_files() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace rpc::testing
