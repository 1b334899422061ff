// SPDX-License-Identifier: Apache-2.0
// The two ends of a simulated connection and the pipes between them. For src/sim alone.
//
//   ClientEnd ── Pipe (frames in order, each with its time of arrival) ──> ServerEnd
//             <── Pipe ──
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/async.h"
#include "rpc/http2/limits.h"
#include "rpc/http2/link.h"
#include "rpc/transport.h"
#include "sim/network.h"

namespace sim {

inline constexpr std::size_t kMaxMessage = rpc::http2::Limits().max_message;

struct Frame {
  enum class Kind { start, message, end, cancel, credit, reset };
  Frame(Kind k, std::uint32_t s) : kind(k), stream(s) {}

  Kind kind;
  std::uint32_t stream;
  std::string method;                  // start
  base::Duration timeout{};            // start
  rpc::Metadata metadata;              // start, message
  rpc::Bytes body;                     // start, message
  std::vector<rpc::Descriptor> files;  // start, message
  std::size_t credit = 0;              // credit: bytes read
  std::optional<base::Error> error;    // end, reset
  bool unprocessed = false;            // end: no handler has seen the call
};

class End;

// One direction. Lives until its last frame has arrived.
class Pipe : public std::enable_shared_from_this<Pipe> {
 public:
  Pipe(Network& network, std::weak_ptr<End> sender, std::weak_ptr<End> receiver, bool local)
      : network_(network), sender_(std::move(sender)), receiver_(std::move(receiver)), local_(local) {}

  void push(Frame frame, base::Duration extra = {});
  // The sender has given the connection up without a word: the receiver's own keepalive finds nobody there any more.
  void abandon();

 private:
  struct Flying {
    base::TimePoint due;
    Frame frame;
  };
  void pump();
  void arrive();
  void stall(End& receiver);

  Network& network_;
  std::weak_ptr<End> sender_;
  std::weak_ptr<End> receiver_;
  const bool local_;
  std::deque<Flying> flying_;
  base::TimePoint last_due_{};
  std::optional<base::TimePoint> stalled_until_;  // keepalive gives up then
  base::Duration retry_{};
};

// What a program sees of its connection: the real link's behaviour, numbered so that runs are alike.
class EndLink final : public rpc::Link {
 public:
  EndLink(Process& process, std::uint64_t id, rpc::Peer peer)
      : id_(id), inner_(std::make_shared<rpc::http2::ConnectionLink>(process, std::move(peer))) {}
  std::uint64_t id() const override { return id_; }
  base::Task<base::Result<rpc::Descriptor>> descriptor(rpc::InodeKey key, base::TimePoint deadline,
                                                       base::StopToken stop) override {
    return inner_->descriptor(key, deadline, std::move(stop));
  }
  const rpc::Peer& peer() const override { return inner_->peer(); }
  rpc::http2::ConnectionLink& inner() { return *inner_; }

 private:
  const std::uint64_t id_;
  const std::shared_ptr<rpc::http2::ConnectionLink> inner_;
};

class End : public std::enable_shared_from_this<End> {
 public:
  End(Network& network, Process& process, std::uint64_t connection, std::uint64_t serial, bool local, rpc::Peer peer);
  virtual ~End();

  Process& process() { return process_; }
  const Process& process() const { return process_; }
  std::uint64_t serial() const { return serial_; }
  bool local() const { return local_; }
  bool broken() const { return broken_.has_value(); }
  const base::Error& why() const { return *broken_; }
  const std::shared_ptr<EndLink>& link() const { return link_; }
  const std::string& peer_node() const { return peer_node_; }
  bool crosses(const std::string& a, const std::string& b) const {
    return (process_.node() == a && peer_node_ == b) || (process_.node() == b && peer_node_ == a);
  }
  void join(const std::shared_ptr<End>& peer);

  void send(Frame frame);
  void arrive(Frame frame);
  // Breaks this end now; the peer hears of it behind what was sent before.
  void close(const base::Error& why);
  // The process died: the peer hears of it soon, or by keepalive.
  void die();
  virtual std::size_t open_calls() const { return 0; }
  // Breaks this end alone.
  void break_off(const base::Error& why);
  // Keepalive found no answer here; the peer finds out as late.
  void give_up();

 protected:
  virtual void receive(Frame frame) = 0;
  virtual void on_broken(const base::Error& why) = 0;

  Network& network_;
  Process& process_;
  const std::uint64_t connection_;
  const std::uint64_t serial_;
  const bool local_;

 private:
  std::string describe(const Frame& frame, std::string_view verb) const;

  std::optional<base::Error> broken_;
  std::shared_ptr<EndLink> link_;
  std::shared_ptr<Pipe> out_;
  std::string peer_node_;
};

// One call as its client's end keeps it.
class ClientCall {
 public:
  virtual ~ClientCall() = default;
  virtual void on_message(rpc::Metadata metadata, rpc::Bytes body) = 0;
  // unprocessed: the server did not look at the call; it may be made again.
  virtual void on_end(base::Result<void> status, bool unprocessed) = 0;
};

class ClientEnd final : public End {
 public:
  using End::End;
  std::uint32_t open(std::shared_ptr<ClientCall> call, Frame start);
  // Forgets the call; the server hears of it if it has not answered.
  void abandon(std::uint32_t stream);
  std::size_t open_calls() const override { return calls_.size(); }

 private:
  void receive(Frame frame) override;
  void on_broken(const base::Error& why) override;

  std::uint32_t last_stream_ = 0;
  std::map<std::uint32_t, std::shared_ptr<ClientCall>> calls_;
};

// One call as its server's end keeps it.
struct Serving {
  base::StopSource stop;
  std::size_t unread = 0;  // bytes on their way or not yet read
  std::optional<base::OneShot<bool>> room;
};

class ServerEnd final : public End {
 public:
  ServerEnd(Network& network, Process& process, std::uint64_t connection, std::uint64_t serial, bool local,
            rpc::Peer peer, std::shared_ptr<ListenerState> listener)
      : End(network, process, connection, serial, local, std::move(peer)), listener_(std::move(listener)) {}

  std::map<std::uint32_t, std::shared_ptr<Serving>>& serving() { return serving_; }
  void stop_calls();

 private:
  void receive(Frame frame) override;
  void on_broken(const base::Error& why) override;

  const std::shared_ptr<ListenerState> listener_;
  std::map<std::uint32_t, std::shared_ptr<Serving>> serving_;
};

// A listening socket, shared by its handle, its connections and its handlers.
class ListenerState : public std::enable_shared_from_this<ListenerState> {
 public:
  ListenerState(Network& network, Process& process, const rpc::Services& services)
      : network_(network), process_(process), services_(services) {}

  Process& process() const { return process_; }
  std::string url;
  rpc::InodeKey inode;
  std::function<rpc::Peer()> peer;  // what clients see

  bool accepting() const { return accepting_; }
  void accept(const std::shared_ptr<ServerEnd>& end) { ends_[end->serial()] = end; }
  void forget(const End& end) { ends_.erase(end.serial()); }
  void serve(std::shared_ptr<ServerEnd> end, Frame start);
  void refuse();                       // takes nothing new
  void close(const base::Error& why);  // breaks every connection
  base::Task<void> finish();

 private:
  static base::Task<void> handle(std::shared_ptr<ListenerState> self, std::shared_ptr<ServerEnd> end, Frame start);
  static base::Task<base::Result<void>> dispatch(const rpc::Services& services, rpc::ServerCall& call,
                                                 std::shared_ptr<ServerEnd> end, std::shared_ptr<Serving> serving,
                                                 std::uint32_t stream, rpc::Bytes body);

  Network& network_;
  Process& process_;
  const rpc::Services& services_;
  bool accepting_ = true;
  std::size_t running_ = 0;
  std::optional<base::OneShot<bool>> idle_;
  std::map<std::uint64_t, std::shared_ptr<ServerEnd>> ends_;
};

}  // namespace sim
