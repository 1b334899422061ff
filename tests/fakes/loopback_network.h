// SPDX-License-Identifier: Apache-2.0
// Processes in one process: a transport for each, connected through posted functions; no sockets, no bytes lost.
// Connections can be broken, descriptors travel, streams hold back a writer that is ahead of its reader. Keeps a record
// of all calls.
//
//   fakes::LoopbackNetwork network(scheduler);
//   auto manager = network.process();
//   auto listener = manager->listen("unix:///manager", services);
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "rpc/transport.h"

namespace fakes {

class LoopbackNetwork {
 public:
  // A call as it reached its server.
  struct Seen {
    std::string url;
    std::string method;
    rpc::Metadata metadata;
    rpc::Bytes body;
  };

  explicit LoopbackNetwork(base::Scheduler& scheduler) : state_(std::make_shared<State>(scheduler)) {}
  ~LoopbackNetwork() { break_connections(); }

  // credentials: none, or what outlives the transport. self: who the others see at the end of its connections.
  std::unique_ptr<rpc::Transport> process(rpc::CallCredentials* credentials = nullptr, rpc::Peer self = {}) {
    return std::make_unique<Transport>(state_, credentials, std::move(self));
  }

  // Breaks every connection to that URL; to all, without one. New calls dial anew.
  void break_connections(const std::string& url = {}) {
    const auto connections = state_->connections;
    for (const auto& weak : connections) {
      if (auto connection = weak.lock(); connection && (url.empty() || connection->url == url)) connection->break_off();
    }
  }

  std::vector<Seen>& seen() { return state_->seen; }

 private:
  static constexpr std::size_t kWindow = 4;  // messages on their way, in a stream

  class Link final : public rpc::Link {
   public:
    Link(base::Scheduler& scheduler, std::uint64_t id, rpc::Peer peer)
        : peer_(std::move(peer)), scheduler_(scheduler), id_(id) {}
    std::uint64_t id() const override { return id_; }
    const rpc::Peer& peer() const override { return peer_; }
    base::Task<base::Result<rpc::Descriptor>> descriptor(rpc::InodeKey key, base::TimePoint deadline,
                                                         base::StopToken stop) override {
      if (const auto found = received_.find(key); found != received_.end()) co_return found->second;
      base::OneShot<base::Result<rpc::Descriptor>> arrival(scheduler_);
      waiting_.emplace(key, arrival);
      co_return co_await base::await_until<rpc::Descriptor>(scheduler_, arrival, deadline, std::move(stop));
    }
    void receive(const std::vector<rpc::Descriptor>& descriptors) {
      for (const auto& descriptor : descriptors) {
        received_.emplace(descriptor.key(), descriptor);
        const auto [first, last] = waiting_.equal_range(descriptor.key());
        for (auto waiter = first; waiter != last; ++waiter) waiter->second.set(descriptor);
        waiting_.erase(first, last);
      }
    }

   private:
    const rpc::Peer peer_;
    base::Scheduler& scheduler_;
    std::uint64_t id_;
    std::map<rpc::InodeKey, rpc::Descriptor> received_;
    std::multimap<rpc::InodeKey, base::OneShot<base::Result<rpc::Descriptor>>> waiting_;
  };

  struct Connection {
    Connection(base::Scheduler& scheduler, std::string u, std::uint64_t id, const rpc::Peer& caller,
               const rpc::Peer& callee)
        : url(std::move(u)),
          client(std::make_shared<Link>(scheduler, id, callee)),
          server(std::make_shared<Link>(scheduler, id + 1, caller)) {}
    std::string url;
    std::shared_ptr<Link> client;
    std::shared_ptr<Link> server;
    bool broken = false;
    base::StopSource stop;
    void break_off() {
      broken = true;
      stop.request_stop();
    }
  };

  struct Listening {
    const rpc::Services* services = nullptr;
    rpc::Peer self;
    base::StopSource stop;
    std::size_t running = 0;
  };

  struct State {
    explicit State(base::Scheduler& s) : scheduler(s) {}
    base::Scheduler& scheduler;
    std::map<std::string, std::shared_ptr<Listening>> listeners;
    std::vector<std::weak_ptr<Connection>> connections;
    std::vector<Seen> seen;
    std::uint64_t next_id = 1;
  };

  // One call, shared by both ends.
  struct Exchange {
    Exchange(base::Scheduler& scheduler, std::shared_ptr<Connection> c)
        : connection(std::move(c)), answers(scheduler), ended(scheduler) {}
    std::shared_ptr<Connection> connection;
    rpc::ServerCall call;
    base::StopSource stop;  // the server's view: cancelled or broken
    base::AsyncQueue<base::Result<rpc::Bytes>> answers;
    base::OneShot<base::Result<rpc::Reply>> ended;
    std::optional<base::OneShot<bool>> room;
    base::StopRegistration on_break;
    base::StopRegistration on_shutdown;
    base::StopRegistration on_cancel;
    base::TimerId timer = 0;

    void end(base::Error error) {
      answers.push(std::unexpected(error));
      answers.close();
      ended.set(std::unexpected(std::move(error)));
      stop.request_stop();
      if (room) room->set(false);
    }
  };

  class ServerStream final : public rpc::ServerStream {
   public:
    ServerStream(base::Scheduler& scheduler, std::shared_ptr<Exchange> exchange)
        : scheduler_(scheduler), exchange_(std::move(exchange)) {}
    base::Task<base::Result<void>> write(rpc::Bytes message, std::vector<rpc::Descriptor> descriptors) override {
      while (!exchange_->stop.stopped() && exchange_->answers.size() >= kWindow) {
        base::OneShot<bool> room(scheduler_);
        exchange_->room.emplace(room);
        co_await room;
        exchange_->room.reset();
      }
      if (exchange_->stop.stopped()) co_return base::fail(base::Code::cancelled, "the call was cancelled");
      exchange_->connection->client->receive(descriptors);
      exchange_->answers.push(std::move(message));
      co_return base::Result<void>();
    }

   private:
    base::Scheduler& scheduler_;
    std::shared_ptr<Exchange> exchange_;
  };

  class ClientStream final : public rpc::ClientStream {
   public:
    explicit ClientStream(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}
    ~ClientStream() override { cancel(); }
    base::Task<base::Result<std::optional<rpc::Bytes>>> read() override {
      auto answer = co_await exchange_->answers.pop();
      if (exchange_->room) exchange_->room->set(true);
      if (!answer) co_return std::optional<rpc::Bytes>();
      if (!*answer) co_return std::unexpected(answer->error());
      co_return std::optional<rpc::Bytes>(std::move(**answer));
    }
    void cancel() override { exchange_->end({base::Code::cancelled, "the call was cancelled"}); }
    std::shared_ptr<rpc::Link> link() const override { return exchange_->connection->client; }

   private:
    std::shared_ptr<Exchange> exchange_;
  };

  class Channel final : public rpc::Channel {
   public:
    Channel(std::shared_ptr<State> state, std::string url, rpc::CallCredentials* credentials, rpc::Peer self)
        : state_(std::move(state)), url_(std::move(url)), credentials_(credentials), self_(std::move(self)) {}

    base::Task<base::Result<rpc::Reply>> unary(std::string method, rpc::Bytes request,
                                               rpc::CallOptions options) override {
      auto exchange = begin(std::move(method), std::move(request), std::move(options));
      if (!exchange) co_return std::unexpected(exchange.error());
      co_return co_await (*exchange)->ended;
    }
    base::Task<base::Result<std::unique_ptr<rpc::ClientStream>>> stream(std::string method, rpc::Bytes request,
                                                                        rpc::CallOptions options) override {
      auto exchange = begin(std::move(method), std::move(request), std::move(options));
      if (!exchange) co_return std::unexpected(exchange.error());
      co_return std::make_unique<ClientStream>(std::move(*exchange));
    }

   private:
    base::Result<std::shared_ptr<Exchange>> begin(std::string method, rpc::Bytes request, rpc::CallOptions options) {
      const auto listening = state_->listeners.find(url_);
      if (listening == state_->listeners.end()) {
        return base::fail(base::Code::unavailable, "nobody listens on {}", url_);
      }
      if (!connection_ || connection_->broken) {
        connection_ =
            std::make_shared<Connection>(state_->scheduler, url_, state_->next_id, self_, listening->second->self);
        state_->next_id += 2;
        state_->connections.push_back(connection_);
      }
      auto exchange = std::make_shared<Exchange>(state_->scheduler, connection_);
      const std::weak_ptr<Exchange> weak = exchange;
      const auto end = [weak](base::Code code, const char* message) {
        if (auto strong = weak.lock()) strong->end({code, message});
      };
      exchange->on_break =
          connection_->stop.token().on_stop([end] { end(base::Code::unavailable, "the connection broke"); });
      exchange->on_shutdown =
          listening->second->stop.token().on_stop([end] { end(base::Code::unavailable, "the server goes away"); });
      exchange->on_cancel = options.stop.on_stop([end] { end(base::Code::cancelled, "the call was cancelled"); });
      if (options.deadline != base::kNoDeadline) {
        exchange->timer = state_->scheduler.post_at(
            options.deadline, [end] { end(base::Code::deadline_exceeded, "the deadline passed"); });
      }
      exchange->call.method = std::move(method);
      exchange->call.metadata = std::move(options.metadata);
      if (credentials_ != nullptr) exchange->call.metadata.merge(credentials_->for_call(*connection_->client));
      exchange->call.deadline = options.deadline;
      exchange->call.stop = exchange->stop.token();
      exchange->call.link = connection_->server;
      connection_->server->receive(options.descriptors);
      state_->scheduler.post(
          [state = state_, server = listening->second, exchange, body = std::move(request)]() mutable {
            base::spawn_detached(serve(std::move(state), std::move(server), std::move(exchange), std::move(body)));
          });
      return exchange;
    }

    static base::Task<void> serve(std::shared_ptr<State> state, std::shared_ptr<Listening> server,
                                  std::shared_ptr<Exchange> exchange, rpc::Bytes body) {
      auto& call = exchange->call;
      if (exchange->stop.stopped()) co_return;
      state->seen.push_back({exchange->connection->url, call.method, call.metadata, body});
      const auto handler = server->services->find(call.method);
      if (handler == server->services->end()) {
        exchange->end({base::Code::unimplemented, "unknown method " + call.method});
        co_return;
      }
      ++server->running;
      if (const auto* unary = std::get_if<rpc::UnaryHandler>(&handler->second)) {
        auto answer = co_await (*unary)(call, std::move(body));
        if (answer) {
          exchange->connection->client->receive(call.reply_descriptors);
          rpc::Reply reply{std::move(*answer), call.reply_metadata, exchange->connection->client};
          exchange->ended.set(std::move(reply));
        } else {
          exchange->end(answer.error());
        }
      } else {
        ServerStream out(state->scheduler, exchange);
        auto answer = co_await std::get<rpc::StreamHandler>(handler->second)(call, std::move(body), out);
        if (!answer) exchange->answers.push(std::unexpected(answer.error()));
        exchange->answers.close();
      }
      state->scheduler.cancel(exchange->timer);
      --server->running;
    }

    std::shared_ptr<State> state_;
    std::string url_;
    rpc::CallCredentials* credentials_;
    const rpc::Peer self_;
    std::shared_ptr<Connection> connection_;
  };

  class Listener final : public rpc::Listener {
   public:
    Listener(std::shared_ptr<State> state, std::string url, const rpc::Services& services, const rpc::Peer& self)
        : state_(std::move(state)), url_(std::move(url)), listening_(std::make_shared<Listening>()) {
      listening_->services = &services;
      listening_->self = self;
      state_->listeners.insert_or_assign(url_, listening_);
    }
    ~Listener() override { close(); }
    std::string url() const override { return url_; }
    base::Task<void> finish() override {
      close();
      while (listening_->running > 0) {
        co_await base::sleep_for(state_->scheduler, std::chrono::milliseconds(1), base::StopToken());
      }
    }

   private:
    void close() {
      if (const auto mine = state_->listeners.find(url_);
          mine != state_->listeners.end() && mine->second == listening_) {
        state_->listeners.erase(mine);
      }
      listening_->stop.request_stop();
    }
    std::shared_ptr<State> state_;
    std::string url_;
    std::shared_ptr<Listening> listening_;
  };

  class Transport final : public rpc::Transport {
   public:
    Transport(std::shared_ptr<State> state, rpc::CallCredentials* credentials, rpc::Peer self)
        : state_(std::move(state)), credentials_(credentials), self_(std::move(self)) {}
    base::Result<std::shared_ptr<rpc::Channel>> channel(const std::string& url,
                                                        std::optional<rpc::Descriptor>) override {
      auto& known = channels_[url];
      auto channel = known.lock();
      if (!channel) known = channel = std::make_shared<Channel>(state_, url, credentials_, self_);
      return channel;
    }
    base::Result<std::unique_ptr<rpc::Listener>> listen(const std::string& url,
                                                        const rpc::Services& services) override {
      if (state_->listeners.contains(url)) return base::fail(base::Code::already_exists, "{} is taken", url);
      return std::make_unique<Listener>(state_, url, services, self_);
    }

   private:
    std::shared_ptr<State> state_;
    rpc::CallCredentials* credentials_;
    const rpc::Peer self_;
    std::map<std::string, std::weak_ptr<rpc::Channel>> channels_;
  };

  std::shared_ptr<State> state_;
};

}  // namespace fakes
