// SPDX-License-Identifier: Apache-2.0
// One thing at a time for each name: registering, refreshing, unregistering and expiring of one record never overlap.
//
// Changes: an unregistration gets the record as it was last registered, whatever of it the caller sent. Keeps, per
// name: the last registered record, until it is withdrawn. Before it: what may refuse a call. Refuses records without a
// name. What waits longer than its deadline gives up.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

// Turns at names. Also taken by elements that act outside calls: the expiry.
class NameTurns {
  struct Entry {
    explicit Entry(base::Scheduler& scheduler) : mutex(scheduler) {}
    base::AsyncMutex mutex;
    std::size_t users = 0;
  };

 public:
  explicit NameTurns(base::Scheduler& scheduler) : scheduler_(scheduler) {}

  // Holds the turn while it lives. Must not outlive the turns.
  class [[nodiscard]] Turn {
   public:
    Turn(NameTurns& turns, std::string name) : turns_(&turns), name_(std::move(name)) {
      auto& entry = turns_->entries_[name_];
      if (!entry) entry = std::make_unique<Entry>(turns_->scheduler_);
      ++entry->users;
      entry_ = entry.get();
    }
    Turn(Turn&& other) noexcept
        : turns_(std::exchange(other.turns_, nullptr)),
          name_(std::move(other.name_)),
          entry_(other.entry_),
          guard_(std::move(other.guard_)) {
      other.guard_.reset();
    }
    Turn& operator=(Turn&&) = delete;
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      if (turns_ == nullptr) return;
      guard_.reset();
      if (--entry_->users == 0) turns_->entries_.erase(name_);
    }

   private:
    friend class NameTurns;
    NameTurns* turns_;
    std::string name_;
    Entry* entry_;
    std::optional<base::AsyncMutex::Guard> guard_;
  };

  // Errors: deadline_exceeded, cancelled.
  base::Task<base::Result<Turn>> take(std::string name, base::TimePoint deadline, base::StopToken stop) {
    Turn turn(*this, std::move(name));
    auto guard = co_await turn.entry_->mutex.lock(deadline, std::move(stop));
    if (!guard) co_return std::unexpected(guard.error().wrap("waiting for another call about " + turn.name_));
    turn.guard_.emplace(std::move(*guard));
    co_return base::Result<Turn>(std::move(turn));
  }

  std::size_t names_in_use() const { return entries_.size(); }

 private:
  base::Scheduler& scheduler_;
  std::map<std::string, std::unique_ptr<Entry>, std::less<>> entries_;
};

template <typename Kind>
class RegistrySerialised final : public RegistryElement<Kind> {
 public:
  using Record = typename Kind::Record;

  explicit RegistrySerialised(base::Scheduler& scheduler) : turns_(scheduler) {}

  NameTurns& turns() { return turns_; }
  // What an element below has withdrawn by itself, holding the turn.
  void forget(const std::string& name) { last_.erase(name); }

  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    if (record.name().empty()) co_return refuse();
    auto turn = co_await turns_.take(record.name(), call.deadline, call.stop);
    if (!turn) co_return std::unexpected(turn.error());
    auto stored = co_await this->next().enroll(call, std::move(record));
    if (stored) last_.insert_or_assign(stored->name(), *stored);
    co_return stored;
  }

  base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) override {
    if (record.name().empty()) co_return refuse();
    auto turn = co_await turns_.take(record.name(), call.deadline, call.stop);
    if (!turn) co_return std::unexpected(turn.error());
    if (const auto last = last_.find(record.name()); last != last_.end()) {
      auto path_ids = std::move(*record.mutable_path_ids());
      record = last->second;
      record.mutable_path_ids()->Swap(&path_ids);
    }
    const std::string name = record.name();
    auto done = co_await this->next().withdraw(call, std::move(record));
    if (done) last_.erase(name);
    co_return done;
  }

 private:
  static std::unexpected<base::Error> refuse() {
    return base::fail(base::Code::invalid_argument,
                      "the {} has no name: every registration needs one, unique in the mesh", Kind::kNoun);
  }

  NameTurns turns_;
  std::map<std::string, Record, std::less<>> last_;
};

}  // namespace mesh
