// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <map>
#include <optional>
#include <thread>
#include <vector>

namespace base {

struct EventLoop::Impl {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  TimerId next_timer = 1;
  std::map<TimerId, std::unique_ptr<asio::steady_timer>> timers;
  std::vector<std::unique_ptr<asio::signal_set>> signals;
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}

// What is still queued dies with the context and may call the loop: without impl_ such calls do nothing.
EventLoop::~EventLoop() { const auto dying = std::move(impl_); }

TimePoint EventLoop::now() const { return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now()); }

WallTime EventLoop::wall_now() const {
  return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
}

void EventLoop::post(std::move_only_function<void()> function) {
  if (impl_) asio::post(impl_->context, std::move(function));
}

TimerId EventLoop::post_at(TimePoint when, std::move_only_function<void()> function) {
  if (!impl_) return 0;
  const TimerId id = impl_->next_timer++;
  auto timer = std::make_unique<asio::steady_timer>(impl_->context, when);
  timer->async_wait([this, id, call = std::move(function)](const asio::error_code& error) mutable {
    if (impl_->timers.erase(id) == 0 || error) return;  // cancelled, perhaps after it had been queued to run
    call();
  });
  impl_->timers.emplace(id, std::move(timer));
  return id;
}

void EventLoop::cancel(TimerId timer) {
  if (impl_) impl_->timers.erase(timer);
}

void EventLoop::run() {
  impl_->context.run();
  impl_->context.restart();
}

void EventLoop::run_for(Duration how_long) {
  impl_->context.restart();
  impl_->context.run_for(how_long);
}

bool EventLoop::run_until(const std::function<bool()>& condition, Duration at_most) {
  const auto deadline = saturating_add(now(), at_most);
  while (!condition()) {
    impl_->context.restart();
    if (impl_->context.run_one_until(deadline) == 0 && now() >= deadline) return condition();
  }
  return true;
}

void EventLoop::quit() { impl_->context.stop(); }

void EventLoop::on_signals(std::initializer_list<int> signals, std::function<void(int)> callback) {
  auto set = std::make_unique<asio::signal_set>(impl_->context);
  for (const int number : signals) set->add(number);
  auto* watched = set.get();
  impl_->signals.push_back(std::move(set));
  auto wait = std::make_shared<std::function<void()>>();
  *wait = [watched, callback = std::move(callback), again = std::weak_ptr(wait)] {
    watched->async_wait([callback, again = again.lock()](const asio::error_code& error, int number) {
      if (error) return;
      callback(number);
      (*again)();
    });
  };
  (*wait)();
}

struct FdWatcher::Impl {
  explicit Impl(EventLoop& loop, UniqueFd fd) : descriptor(loop.impl().context, fd.release()) {
    descriptor.non_blocking(true);
  }
  asio::posix::stream_descriptor descriptor;
};

FdWatcher::FdWatcher(EventLoop& loop, UniqueFd fd) : impl_(std::make_shared<Impl>(loop, std::move(fd))) {}
FdWatcher::~FdWatcher() { close(); }

int FdWatcher::fd() const { return impl_->descriptor.native_handle(); }

void FdWatcher::when_readable(std::move_only_function<void(bool)> callback) {
  impl_->descriptor.async_wait(
      asio::posix::stream_descriptor::wait_read,
      [impl = impl_, call = std::move(callback)](const asio::error_code& error) mutable { call(!error); });
}

void FdWatcher::when_writable(std::move_only_function<void(bool)> callback) {
  impl_->descriptor.async_wait(
      asio::posix::stream_descriptor::wait_write,
      [impl = impl_, call = std::move(callback)](const asio::error_code& error) mutable { call(!error); });
}

void FdWatcher::close() {
  asio::error_code ignored;
  impl_->descriptor.close(ignored);
}

}  // namespace base
