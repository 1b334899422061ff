// SPDX-License-Identifier: Apache-2.0
// A lazy coroutine: starts when awaited, resumes its awaiter when done. Single-threaded: a task and everything it
// awaits live on one scheduler. A suspended task is never destroyed from outside; to end one early, stop what it waits
// for.
//
// GCC 12 destroys an aggregate temporary passed by value inside a co_await call twice: give such a type a constructor,
// or name the object and move it. GCC 12.2 miscompiles (to a trap, or to nothing) a coroutine that awaits in the
// condition of an if, while, for or switch and declares no variable at the top level of its body (GCC bug 106188): name
// the result, `while (const bool go = co_await f())`.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace base {

template <typename T>
class Task;

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();
  // The awaiter is on the stack, inside await_suspend, and goes on by itself. Resuming it from here would cost stack
  // for every task that never suspends, wherever the compiler makes no tail calls (GCC below -O2).
  bool awaiter_on_stack = false;

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) const noexcept {
      if (done.promise().awaiter_on_stack) return std::noop_coroutine();
      return done.promise().continuation;
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;

  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() const noexcept {}
  void take() const noexcept {}
};

}  // namespace detail

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiting) const noexcept {
      handle.promise().continuation = awaiting;
      handle.promise().awaiter_on_stack = true;
      handle.resume();
      if (handle.done()) return false;
      handle.promise().awaiter_on_stack = false;
      return true;
    }
    T await_resume() const { return handle.promise().take(); }
  };
  Awaiter operator co_await() const noexcept { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

namespace detail {

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

inline Detached run_detached(Task<void> task) { co_await task; }

}  // namespace detail

// Runs a task at once, up to its first suspension; it frees itself at its end. What it uses must outlive it: prefer
// TaskScope::spawn, which its owner can wait for.
inline void spawn_detached(Task<void> task) { detail::run_detached(std::move(task)); }

}  // namespace base
