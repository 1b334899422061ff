// SPDX-License-Identifier: Apache-2.0
// One transport connection as its users see it, and the table of files that came over it.
//
// A file nobody has asked for is kept open: its request may still be on the way. Once asked for, the table only
// remembers it weakly, so a connection that lives for days holds no file its users dropped. The table keeps at most
// 1024 files and lets the oldest go. A link outlives its connection: what had come can still be asked for.
#pragma once

#include <list>
#include <map>

#include "base/async.h"
#include "rpc/transport.h"

namespace rpc::http2 {

class ConnectionLink final : public Link, public std::enable_shared_from_this<ConnectionLink> {
 public:
  static constexpr std::size_t kMaxUnclaimed = 1024;
  // NSM's clients send a file once for each mention in a request, and concurrent requests may mention the same one. A
  // file that came more often than it was asked for is kept this long.
  static constexpr base::Duration kSurplusTime = std::chrono::seconds(10);

  ConnectionLink(base::Scheduler& scheduler, Peer peer);
  ~ConnectionLink() override;

  std::uint64_t id() const override { return id_; }
  base::Task<base::Result<Descriptor>> descriptor(InodeKey key, base::TimePoint deadline,
                                                  base::StopToken stop) override;
  const Peer& peer() const override { return peer_; }

  void arrived(Descriptor descriptor);
  // No more files will come.
  void broken(const base::Error& why);
  std::size_t held() const { return kept_.size(); }  // files the table keeps open

 private:
  struct Kept {
    InodeKey key;
    Descriptor descriptor;
    std::size_t unclaimed;  // arrivals nobody has asked for yet
    bool claimed = false;
    base::TimePoint last_arrival;
  };
  using Waiter = base::OneShot<base::Result<Descriptor>>;

  std::optional<Descriptor> claim(InodeKey key);
  void release(std::list<Kept>::iterator kept);
  void forget_surplus();
  void watch_surplus();

  base::Scheduler& scheduler_;
  const std::uint64_t id_;
  const Peer peer_;
  std::optional<base::Error> broken_;
  std::list<Kept> kept_;  // oldest first
  std::map<InodeKey, std::list<Kept>::iterator> kept_by_key_;
  std::map<InodeKey, std::weak_ptr<const base::UniqueFd>> seen_;
  std::map<std::pair<InodeKey, std::uint64_t>, Waiter> waiters_;
  std::uint64_t next_waiter_ = 1;
  std::size_t sweep_at_ = 64;
  base::TimerId surplus_timer_ = 0;
};

}  // namespace rpc::http2
