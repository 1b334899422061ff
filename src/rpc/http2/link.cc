// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/link.h"

#include <algorithm>
#include <atomic>

#include "base/log.h"

namespace rpc::http2 {

using base::Code;
using base::fail;

namespace {
std::uint64_t next_link_id() {
  static std::atomic<std::uint64_t> next{1};  // several loops may live in one test process
  return next.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

ConnectionLink::ConnectionLink(base::Scheduler& scheduler, Peer peer)
    : scheduler_(scheduler), id_(next_link_id()), peer_(std::move(peer)) {}

ConnectionLink::~ConnectionLink() { scheduler_.cancel(surplus_timer_); }

void ConnectionLink::arrived(Descriptor descriptor) {
  const auto key = descriptor.key();
  // The same file again: one descriptor is enough, the new one closes here.
  if (const auto known = seen_.find(key); known != seen_.end()) {
    if (auto alive = known->second.lock()) descriptor = Descriptor(key, std::move(alive));
  }
  bool awaited = false;
  for (auto waiter = waiters_.lower_bound({key, 0}); waiter != waiters_.end() && waiter->first.first == key; ++waiter) {
    awaited |= waiter->second.set(descriptor);
  }
  if (awaited) {
    seen_[key] = descriptor.watch();
    return;
  }
  if (const auto kept = kept_by_key_.find(key); kept != kept_by_key_.end()) {
    ++kept->second->unclaimed;
    kept->second->last_arrival = scheduler_.now();
    return;
  }
  seen_[key] = descriptor.watch();
  kept_.push_back(Kept{key, std::move(descriptor), 1, false, scheduler_.now()});
  kept_by_key_[key] = std::prev(kept_.end());
  if (kept_.size() > kMaxUnclaimed) {
    base::log::warning("connection {}: {} files wait for a request that names them; {} is closed", id_, kept_.size(),
                       inode_url(kept_.front().key));
    seen_.erase(kept_.front().key);
    release(kept_.begin());
  }
  if (seen_.size() > sweep_at_) {
    std::erase_if(seen_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<std::size_t>(64, seen_.size() * 2);
  }
}

void ConnectionLink::release(std::list<Kept>::iterator kept) {
  kept_by_key_.erase(kept->key);
  kept_.erase(kept);
}

std::optional<Descriptor> ConnectionLink::claim(InodeKey key) {
  if (const auto found = kept_by_key_.find(key); found != kept_by_key_.end()) {
    const auto kept = found->second;
    Descriptor descriptor = kept->descriptor;
    kept->claimed = true;
    if (--kept->unclaimed == 0) {
      release(kept);
    } else {
      watch_surplus();
    }
    return descriptor;
  }
  const auto known = seen_.find(key);
  if (known == seen_.end()) return std::nullopt;
  if (auto alive = known->second.lock()) return Descriptor(key, std::move(alive));
  seen_.erase(known);
  return std::nullopt;
}

void ConnectionLink::watch_surplus() {
  if (surplus_timer_ != 0) return;
  surplus_timer_ = scheduler_.post_at(scheduler_.now() + kSurplusTime, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->forget_surplus();
  });
}

void ConnectionLink::forget_surplus() {
  surplus_timer_ = 0;
  bool more = false;
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    const auto current = kept++;
    if (!current->claimed) continue;
    if (scheduler_.now() - current->last_arrival >= kSurplusTime) {
      release(current);
    } else {
      more = true;
    }
  }
  if (more) watch_surplus();
}

void ConnectionLink::broken(const base::Error& why) {
  if (broken_) return;
  broken_ = why;
  for (auto& [key, waiter] : waiters_) {
    waiter.set(fail(Code::unavailable, "{}: the connection broke before the file came: {}", inode_url(key.first),
                    why.message()));
  }
}

base::Task<base::Result<Descriptor>> ConnectionLink::descriptor(InodeKey key, base::TimePoint deadline,
                                                                base::StopToken stop) {
  const auto self = shared_from_this();
  if (auto descriptor = claim(key)) co_return std::move(*descriptor);
  if (broken_) {
    co_return fail(Code::unavailable, "{}: the connection broke before the file came: {}", inode_url(key),
                   broken_->message());
  }
  const auto waiter = waiters_.emplace(std::pair{key, next_waiter_++}, Waiter(scheduler_)).first;
  auto result = co_await base::await_until(scheduler_, waiter->second, deadline, std::move(stop));
  waiters_.erase(waiter);
  if (!result && result.error().code() == Code::deadline_exceeded) {
    co_return fail(Code::deadline_exceeded,
                   "{}: no such file came over this connection before the deadline: the peer must send it along",
                   inode_url(key));
  }
  co_return result;
}

}  // namespace rpc::http2
