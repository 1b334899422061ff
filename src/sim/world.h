// SPDX-License-Identifier: Apache-2.0
// Many processes in one: virtual time, and an order of events that the seed decides.
//
// A process runs its own events in the order it posted them, as one event loop does; among processes that have
// something to run at the same instant the seed chooses. Nothing takes time but timers, so a run is as fast as its
// code. What the world cannot repeat must not enter it: real clocks, threads, addresses of objects, unordered
// containers.
//
//   seed ──> World ──> Process (a base::Scheduler) ──> Program (the code under test)
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/async.h"
#include "base/random.h"
#include "base/scheduler.h"
#include "sim/event_log.h"

namespace sim {

class World;

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// True in so many cases of a million. Draws once, whatever the odds.
bool chance(base::Random& random, std::uint32_t per_million);
// Uniform in [low, high].
base::Duration between(base::Random& random, base::Duration low, base::Duration high);

// What a process runs. Made and destroyed inside its process.
class Program {
 public:
  virtual ~Program() = default;
  // Ends everything under way. Also asked of a killed process: see Process.
  virtual base::Task<void> finish() = 0;
};

// One simulated process: its scheduler, its randomness, its wall clock.
//
// A killed process is dead to the others at once (on_death tells whoever acts for it: transport, kernel). Inside, it
// lives on as a zombie until its coroutines have unwound, for a suspended coroutine cannot be thrown away: every wait
// ends with an error, and Program::finish() is asked to end the rest. Then the program is destroyed.
class Process final : public base::Scheduler {
 public:
  enum class State { running, ending, zombie, gone };

  base::TimePoint now() const override;
  base::WallTime wall_now() const override;
  void post(std::move_only_function<void()> function) override;
  base::TimerId post_at(base::TimePoint when, std::move_only_function<void()> function) override;
  void cancel(base::TimerId timer) override;

  std::uint64_t id() const { return id_; }  // never reused
  const std::string& name() const { return name_; }
  const std::string& node() const { return node_; }
  const std::string& label() const { return label_; }  // name#id, as the event log calls it
  State state() const { return state_; }
  // Whether the others can still see what it does.
  bool alive() const { return state_ == State::running || state_ == State::ending; }
  base::Random& random() { return random_; }
  World& world() { return world_; }

  // Moves this process's wall clock; its timers do not notice.
  void jump_wall_clock(base::Duration by) { wall_offset_ += by; }
  // What a time server does.
  void correct_wall_clock() { wall_offset_ = {}; }
  // Runs nothing until then, as if it had been stopped by a signal or starved.
  void pause_until(base::TimePoint when);

  // Hands over what it runs. Requires that it runs nothing yet.
  void run(std::unique_ptr<Program> program) { program_ = std::move(program); }

  // Calls back when the process is killed or has ended, before its coroutines hear of it.
  void on_death(std::move_only_function<void()> callback) { on_death_.push_back(std::move(callback)); }

  void log(std::string_view what);

 private:
  friend class World;
  Process(World& world, std::uint64_t id, std::string node, std::string name, std::uint64_t seed);
  void die();
  base::Task<void> wind_up();

  struct Ready {
    base::TimerId timer;  // 0: function is what to run; else the timer's, unless cancelled meanwhile
    std::move_only_function<void()> function;
  };

  World& world_;
  const std::uint64_t id_;
  const std::string node_;
  const std::string name_;
  const std::string label_;
  base::SeededRandom random_;
  base::Duration wall_offset_{};
  State state_ = State::running;
  std::deque<Ready> ready_;
  bool runnable_ = false;  // stands in the world's list
  base::TimePoint paused_until_{};
  std::vector<std::move_only_function<void()>> on_death_;
  std::unique_ptr<Program> program_;
};

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  std::uint64_t seed() const { return seed_; }
  base::TimePoint now() const { return now_; }
  base::WallTime wall_now() const;  // of clocks that are right
  EventLog& log() { return log_; }

  // The world's own actor: faults, workloads and kernels act from it. Never dies.
  Process& god() { return *processes_.front(); }

  // A stream of randomness of its own for every purpose, so that more draws for one leave the others as they were.
  base::SeededRandom random_for(std::string_view purpose) const { return base::SeededRandom(seed_ ^ fnv1a(purpose)); }

  Process& spawn(std::string node, std::string name);
  // kill -9.
  void kill(Process& process);
  // SIGTERM: finishes its program first.
  void terminate(Process& process);
  // Processes whose program has not been destroyed yet.
  std::size_t unfinished() const;
  const std::deque<std::unique_ptr<Process>>& processes() const { return processes_; }

  // Runs one event that is due by the limit; false if there is none: then it is the limit's time.
  bool step(base::TimePoint limit);
  void run_until(base::TimePoint limit);
  void run_for(base::Duration time) { run_until(now_ + time); }
  // Runs until the condition holds; false if it does not by then.
  bool run_while_not(const std::function<bool()>& condition, base::Duration at_most);
  // Kills what still runs and waits for the zombies; a process that does not end is a violation.
  void finish();

  // Checked after every event until the first violation.
  void add_invariant(std::function<void()> check) { invariants_.push_back(std::move(check)); }
  // The first one counts.
  void violate(std::string what);
  const std::optional<std::string>& violation() const { return violation_; }
  std::uint64_t events() const { return events_; }

  // Whose event is running; nobody's between events.
  const Process* current() const { return current_; }

 private:
  friend class Process;
  struct Due {
    base::TimePoint when;
    base::TimerId id;
    Process* process;
    bool operator>(const Due& other) const { return when != other.when ? when > other.when : id > other.id; }
  };
  void make_ready(Process& process, Process::Ready ready);
  void make_runnable(Process& process);
  bool advance(base::TimePoint limit);
  void run_one();

  const std::uint64_t seed_;
  base::SeededRandom order_;
  base::TimePoint now_;
  EventLog log_;
  std::uint64_t next_process_ = 0;
  base::TimerId next_timer_ = 1;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::unordered_map<base::TimerId, std::move_only_function<void()>> timers_;  // looked up, never iterated
  std::vector<Process*> runnable_;
  std::deque<std::unique_ptr<Process>> processes_;
  const Process* current_ = nullptr;
  std::uint64_t events_ = 0;
  std::uint64_t events_at_now_ = 0;
  std::vector<std::function<void()>> invariants_;
  std::optional<std::string> violation_;
};

}  // namespace sim
