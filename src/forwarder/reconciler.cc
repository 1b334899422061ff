// SPDX-License-Identifier: Apache-2.0
#include "forwarder/reconciler.h"

#include <algorithm>

#include "base/log.h"

namespace forwarder {

using base::Result;
using base::Task;

namespace {

constexpr base::Duration kInterval = std::chrono::seconds(60);

}  // namespace

Task<void> Reconciler::start() {
  auto looked = co_await reconcile();
  if (!looked) base::log::warning("reconciler: {}", looked.error().message());
  if (!orphans_.empty()) {
    base::log::info("{} wires of an earlier life are kept for {} s, until their clients come back", orphans_.size(),
                    std::chrono::duration_cast<std::chrono::seconds>(grace_).count());
  }
  tasks_.spawn(repeat());
}

Task<void> Reconciler::repeat() {
  for (;;) {
    const bool due = co_await base::sleep_for(scheduler_, std::min(kInterval, grace_), tasks_.stop_token());
    if (!due) co_return;
    auto looked = co_await reconcile();
    if (!looked) base::log::warning("reconciler: {}", looked.error().message());
  }
}

Task<Result<void>> Reconciler::reconcile() {
  auto plugged = co_await plane_.plugged();
  if (!plugged) co_return std::unexpected(plugged.error());

  std::map<std::string, base::TimePoint> still;
  for (const std::string& id : *plugged) {
    // Also a connection whose first request is under way counts as wanted.
    if (connections_.knows(id)) continue;
    const auto known = orphans_.find(id);
    still.emplace(id, known == orphans_.end() ? scheduler_.now() : known->second);
  }
  orphans_ = std::move(still);

  std::vector<std::string> overdue;
  for (const auto& [id, since] : orphans_) {
    if (scheduler_.now() - since >= grace_) overdue.push_back(id);
  }
  for (const std::string& id : overdue) {
    if (connections_.knows(id)) continue;
    base::log::info("removing the wire of connection {}, which nobody has asked for", id);
    auto gone = co_await plane_.unplug(id);
    if (gone) {
      orphans_.erase(id);
    } else {
      base::log::warning("removing the wire of connection {}: {}", id, gone.error().message());
    }
  }
  co_return Result<void>();
}

}  // namespace forwarder
