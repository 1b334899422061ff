// SPDX-License-Identifier: Apache-2.0
#include "kernel/graveyard.h"

#include <linux/if_link.h>
#include <net/if.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace kernel {
namespace {

Message last_rites(int index, const std::string& name) {
  ifinfomsg header{};
  header.ifi_index = index;
  header.ifi_change = IFF_UP;
  Message message(RTM_SETLINK, 0, header);
  message.put_text(IFLA_IFNAME, name).put(IFLA_GROUP, kGraveGroup);
  return message;
}

bool is_gone(int error) { return error == ENODEV || error == ENOENT || error == ESRCH; }

}  // namespace

Graveyard::Graveyard(std::chrono::milliseconds delay) : delay_(delay), thread_([this] { loop(); }) {
  pthread_setname_np(thread_.native_handle(), "graveyard");
}

Graveyard::~Graveyard() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

base::Result<void> Graveyard::bury(const std::vector<LinkAt>& ends) {
  Grave grave;
  base::Result<void> outcome;
  for (const auto& end : ends) {
    // The name is the index, so it is free unless somebody takes such names on purpose; then the kernel finds one.
    for (const auto& name : {fmt::format("gone{}", end.index), std::string("gone-%d")}) {
      Message message = last_rites(end.index, name);
      auto replies = end.netns->route().exchange({&message, 1});
      if (!replies) {
        outcome = std::unexpected(replies.error().wrap(end.netns->name()));
        break;
      }
      const auto& reply = replies->front();
      if (is_gone(reply.error)) break;
      if (reply.error == EEXIST) continue;
      if (reply.error != 0) {
        outcome = fail_reply(reply, fmt::format("{}: cannot retire interface number {}", end.netns->name(), end.index));
      } else {
        grave.push_back(end);
      }
      break;
    }
  }
  if (grave.empty()) return outcome;
  {
    const std::scoped_lock lock(mutex_);
    graves_.push_back(std::move(grave));
    ++counters_.buried;
  }
  changed_.notify_all();
  return outcome;
}

base::Result<void> Graveyard::flush() {
  std::unique_lock lock(mutex_);
  if (graves_.empty() && !deleting_) return {};
  // A round under way may have begun before the latest burial.
  const std::uint64_t awaited = round_ + (deleting_ ? 2 : 1);
  asked_ = std::max(asked_, awaited);
  changed_.notify_all();
  changed_.wait(lock, [this, awaited] { return round_ >= awaited; });
  return last_;
}

Graveyard::Counters Graveyard::counters() const {
  const std::scoped_lock lock(mutex_);
  return counters_;
}

void Graveyard::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto hurry = [this] { return ending_ || asked_ > round_; };
    changed_.wait(lock, [&] { return hurry() || !graves_.empty(); });
    if (!hurry()) changed_.wait_for(lock, delay_, hurry);
    if (ending_ && graves_.empty()) return;

    auto graves = std::exchange(graves_, {});
    const auto count = graves.size();
    deleting_ = true;
    lock.unlock();
    auto outcome = delete_all(graves);
    lock.lock();
    deleting_ = false;
    counters_.deleted += count - graves.size();
    if (!outcome) {
      base::log::warning("graveyard: {} of {} links are still there: {}", graves.size(), count,
                         outcome.error().message());
      // They are down, nameless and in the grave group, so the next batch of their namespace or a clean-up takes them.
    }
    last_ = std::move(outcome);
    ++round_;
    changed_.notify_all();
  }
}

// Takes out of graves what it deleted. A pair dies with either end, so the namespace with most graves goes first.
base::Result<void> Graveyard::delete_all(std::vector<Grave>& graves) {
  base::Result<void> outcome;
  std::map<NetnsKey, int> refused;
  for (;;) {
    std::map<NetnsKey, std::pair<std::size_t, Netns*>> sizes;
    for (const auto& grave : graves) {
      for (const auto& end : grave) {
        if (refused.contains(end.netns->key())) continue;
        auto& entry = sizes[end.netns->key()];
        ++entry.first;
        entry.second = end.netns.get();
      }
    }
    const auto largest = std::ranges::max_element(sizes, {}, [](const auto& entry) { return entry.second.first; });
    if (largest == sizes.end()) return outcome;
    Netns& netns = *largest->second.second;

    // A socket of its own: requests on the namespace's shared one must not wait for this.
    auto socket = netns.open_socket();
    base::Result<std::vector<Object>> done;
    if (socket) {
      Message message(RTM_DELLINK, 0, ifinfomsg{});
      message.put(IFLA_GROUP, kGraveGroup);
      done = (*socket)->request(std::move(message), fmt::format("{}: cannot delete links", netns.name()));
    } else {
      done = std::unexpected(socket.error());
    }
    if (!done && done.error().code() != base::Code::not_found) {
      outcome = std::unexpected(done.error());
      refused[netns.key()] = 1;
      continue;
    }
    {
      const std::scoped_lock lock(mutex_);
      ++counters_.batches;
    }
    std::erase_if(graves, [&netns](const Grave& grave) {
      return std::ranges::any_of(grave, [&netns](const LinkAt& end) { return end.netns->key() == netns.key(); });
    });
  }
}

}  // namespace kernel
