// SPDX-License-Identifier: Apache-2.0
#include "sim/world.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace sim {

namespace {

constexpr base::TimePoint kStart{hours(1)};  // so that a little before the start is still a time
constexpr base::WallTime kWallStart{seconds(1'790'000'000) - hours(1)};
constexpr std::uint64_t kLivelock = 1'000'000;  // events without time passing; a busy instant has some thousand

}  // namespace

bool chance(base::Random& random, std::uint32_t per_million) { return base::uniform(random, 1'000'000) < per_million; }

base::Duration between(base::Random& random, base::Duration low, base::Duration high) {
  if (high <= low) return low;
  return low + base::Duration(base::uniform(random, static_cast<std::uint64_t>((high - low).count()) + 1));
}

Process::Process(World& world, std::uint64_t id, std::string node, std::string name, std::uint64_t seed)
    : world_(world),
      id_(id),
      node_(std::move(node)),
      name_(std::move(name)),
      label_(fmt::format("{}#{}", name_, id)),
      random_(seed) {}

base::TimePoint Process::now() const { return world_.now_; }
base::WallTime World::wall_now() const { return kWallStart + now_.time_since_epoch(); }

base::WallTime Process::wall_now() const { return world_.wall_now() + wall_offset_; }

void Process::post(std::move_only_function<void()> function) { world_.make_ready(*this, {0, std::move(function)}); }

base::TimerId Process::post_at(base::TimePoint when, std::move_only_function<void()> function) {
  const auto id = world_.next_timer_++;
  world_.timers_.emplace(id, std::move(function));
  if (when != base::kNoDeadline) world_.due_.push({std::max(when, world_.now_), id, this});
  return id;
}

void Process::cancel(base::TimerId timer) {
  // Out of the table before it is destroyed: what it owns may cancel timers of its own.
  auto cancelled = world_.timers_.extract(timer);
}

void Process::pause_until(base::TimePoint when) {
  if (!alive()) return;
  log(fmt::format("paused for {} ms", (when - now()) / milliseconds(1)));
  paused_until_ = when;
  std::erase(world_.runnable_, this);
  runnable_ = false;
  world_.due_.push({when, 0, this});
}

void Process::log(std::string_view what) { world_.log_.line(world_.now_, label_, what); }

void Process::die() {
  paused_until_ = {};
  world_.make_runnable(*this);
  auto callbacks = std::move(on_death_);
  on_death_.clear();
  for (auto& callback : callbacks) callback();
}

base::Task<void> Process::wind_up() {
  if (program_) co_await program_->finish();
  // In an event of its own: the frames that finished are still being left.
  post([this] {
    program_.reset();
    const bool was_alive = alive();
    state_ = State::gone;
    if (!was_alive) return;
    log("has ended");
    die();
  });
}

World::World(std::uint64_t seed) : seed_(seed), order_(random_for("order")), now_(kStart) {
  processes_.push_back(
      std::unique_ptr<Process>(new Process(*this, next_process_++, "", "world", random_for("world").next())));
  base::log::set_sink([this](base::log::Level level, std::string_view text) {
    // A zombie's last words are nobody's business: the run is the same without them.
    const std::string_view who = current_ != nullptr ? current_->label() : std::string_view("nobody");
    if (level < base::log::Level::info || (current_ != nullptr && !current_->alive())) {
      log_.remark(now_, who, text);
    } else {
      log_.line(now_, who, text);
    }
  });
}

World::~World() {
  base::log::set_sink({});
  for (auto& process : processes_) process->program_.reset();
  // What pending calls own may post or cancel while it is destroyed: take it out first.
  auto timers = std::move(timers_);
  timers_.clear();
  timers.clear();
  for (auto& process : processes_) {
    auto ready = std::move(process->ready_);
    process->ready_.clear();
    ready.clear();
  }
}

Process& World::spawn(std::string node, std::string name) {
  const auto id = next_process_++;
  const auto seed = random_for(fmt::format("process {} {}", name, id)).next();
  processes_.push_back(std::unique_ptr<Process>(new Process(*this, id, std::move(node), std::move(name), seed)));
  processes_.back()->log("starts");
  return *processes_.back();
}

void World::kill(Process& process) {
  if (!process.alive()) return;
  const bool winding_up = process.state_ == Process::State::ending;
  process.log("is killed");
  process.state_ = Process::State::zombie;
  process.die();
  if (!winding_up) process.post([&process] { base::spawn_detached(process.wind_up()); });
}

void World::terminate(Process& process) {
  if (process.state_ != Process::State::running) return;
  process.log("is asked to end");
  process.state_ = Process::State::ending;
  process.post([&process] { base::spawn_detached(process.wind_up()); });
}

std::size_t World::unfinished() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      processes_, [](const auto& process) { return process->id() != 0 && process->state() != Process::State::gone; }));
}

void World::make_ready(Process& process, Process::Ready ready) {
  process.ready_.push_back(std::move(ready));
  make_runnable(process);
}

void World::make_runnable(Process& process) {
  if (process.runnable_ || process.ready_.empty() || process.paused_until_ > now_) return;
  process.runnable_ = true;
  runnable_.push_back(&process);
}

bool World::advance(base::TimePoint limit) {
  while (!due_.empty() && due_.top().id != 0 && !timers_.contains(due_.top().id)) due_.pop();
  if (due_.empty() || due_.top().when > limit) {
    if (limit != base::kNoDeadline && limit > now_) {
      now_ = limit;
      events_at_now_ = 0;
    }
    return false;
  }
  if (due_.top().when > now_) events_at_now_ = 0;
  now_ = due_.top().when;
  while (!due_.empty() && due_.top().when == now_) {
    const Due due = due_.top();
    due_.pop();
    if (due.id != 0) {
      if (timers_.contains(due.id)) make_ready(*due.process, {due.id, {}});
    } else {
      make_runnable(*due.process);
    }
  }
  return true;
}

void World::run_one() {
  const auto chosen = runnable_.size() == 1 ? 0 : base::uniform(order_, runnable_.size());
  Process& process = *runnable_[chosen];
  auto ready = std::move(process.ready_.front());
  process.ready_.pop_front();
  if (process.ready_.empty()) {
    process.runnable_ = false;
    runnable_[chosen] = runnable_.back();
    runnable_.pop_back();
  }
  if (ready.timer != 0) {
    auto timer = timers_.extract(ready.timer);
    if (timer.empty()) return;
    ready.function = std::move(timer.mapped());
  }
  current_ = &process;
  ready.function();
  ready.function = nullptr;  // what it owned goes while the process is still the current one
  ++events_;
  if (++events_at_now_ == kLivelock)
    violate(fmt::format("{} events without time passing, last {}", kLivelock, process.label()));
  if (!violation_) {
    for (const auto& check : invariants_) check();
  }
  current_ = nullptr;
}

bool World::step(base::TimePoint limit) {
  while (runnable_.empty()) {
    if (!advance(limit)) return false;
  }
  run_one();
  return true;
}

void World::run_until(base::TimePoint limit) {
  while (!violation_ && step(limit)) {
  }
}

bool World::run_while_not(const std::function<bool()>& condition, base::Duration at_most) {
  const auto limit = now_ + at_most;
  while (!condition()) {
    if (violation_ || !step(limit)) return condition();
  }
  return true;
}

void World::finish() {
  for (const auto& process : processes_) {
    if (process->id() != 0) kill(*process);
  }
  invariants_.clear();
  const auto limit = now_ + hours(24);
  events_at_now_ = 0;
  while (unfinished() > 0 && events_at_now_ < kLivelock && step(limit)) {
  }
  // One more hour for what detached tasks still hold.
  const auto rest = now_ + hours(1);
  while (events_at_now_ < kLivelock && step(rest)) {
  }
  for (const auto& process : processes_) {
    if (process->id() != 0 && process->state() != Process::State::gone) {
      violate(fmt::format("{} does not end: its finish() has not returned", process->label()));
    }
  }
}

void World::violate(std::string what) {
  if (violation_) return;
  log_.line(now_, current_ != nullptr ? current_->label() : "world", fmt::format("VIOLATION {}", what));
  violation_ = std::move(what);
}

}  // namespace sim
