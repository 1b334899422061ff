// SPDX-License-Identifier: Apache-2.0
// Asking work to end: a source asks, tokens hear of it. Single-threaded, callbacks run inside request_stop() in order
// of registration. A token may outlive its source.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

namespace base {

namespace detail {
struct StopState {
  bool stopped = false;
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, std::move_only_function<void()>> callbacks;
};
}  // namespace detail

// Keeps a callback registered; dropping it forgets the callback.
class [[nodiscard]] StopRegistration {
 public:
  StopRegistration() = default;
  StopRegistration(std::weak_ptr<detail::StopState> state, std::uint64_t id) : state_(std::move(state)), id_(id) {}
  StopRegistration(StopRegistration&& other) noexcept
      : state_(std::move(other.state_)), id_(std::exchange(other.id_, 0)) {}
  StopRegistration& operator=(StopRegistration&& other) noexcept {
    if (this != &other) {
      forget();
      state_ = std::move(other.state_);
      id_ = std::exchange(other.id_, 0);
    }
    return *this;
  }
  ~StopRegistration() { forget(); }

 private:
  void forget() {
    if (auto state = state_.lock(); state && id_ != 0) state->callbacks.erase(id_);
    id_ = 0;
  }
  std::weak_ptr<detail::StopState> state_;
  std::uint64_t id_ = 0;
};

class StopToken {
 public:
  StopToken() = default;  // never stops
  explicit StopToken(std::shared_ptr<detail::StopState> state) : state_(std::move(state)) {}

  bool stopped() const { return state_ && state_->stopped; }

  // Calls back when stop is asked for; at once if it already was.
  StopRegistration on_stop(std::move_only_function<void()> callback) const {
    if (!state_) return {};
    if (state_->stopped) {
      callback();
      return {};
    }
    const auto id = state_->next_id++;
    state_->callbacks.emplace(id, std::move(callback));
    return {state_, id};
  }

 private:
  std::shared_ptr<detail::StopState> state_;
};

class StopSource {
 public:
  StopSource() : state_(std::make_shared<detail::StopState>()) {}

  StopToken token() const { return StopToken(state_); }
  bool stopped() const { return state_->stopped; }

  void request_stop() {
    auto state = state_;
    if (std::exchange(state->stopped, true)) return;
    while (!state->callbacks.empty()) {
      auto first = state->callbacks.begin();
      auto callback = std::move(first->second);
      state->callbacks.erase(first);
      callback();
    }
  }

 private:
  std::shared_ptr<detail::StopState> state_;
};

}  // namespace base
