// SPDX-License-Identifier: Apache-2.0
#include "sim/transport.h"

#include <fmt/format.h>

#include <deque>
#include <vector>

#include "sim/connection.h"

namespace sim {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using base::TimePoint;

namespace {

constexpr int kAttempts = 3;                                 // of a call that the server did not look at
constexpr base::Duration kDeadCallDelay = milliseconds(10);  // so that a zombie's retry loop does not spin

// Whoever needs the connection holds one; it closes when the last is gone.
class Lease {
 public:
  explicit Lease(std::shared_ptr<ClientEnd> end) : end_(std::move(end)) {}
  ~Lease() { end_->close(base::Error(Code::cancelled, "the channel was dropped")); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ClientEnd& end() const { return *end_; }

 private:
  const std::shared_ptr<ClientEnd> end_;
};

class UnaryCall final : public ClientCall {
 public:
  UnaryCall(Process& process, std::shared_ptr<rpc::Link> link) : done(process), link_(std::move(link)) {}
  base::OneShot<Result<rpc::Reply>> done;
  bool refused = false;

  void on_message(rpc::Metadata metadata, rpc::Bytes body) override {
    rpc::Reply reply;
    reply.metadata = std::move(metadata);
    reply.body = std::move(body);
    reply.link = link_;
    reply_ = std::move(reply);
  }
  void on_end(Result<void> status, bool unprocessed) override {
    refused = unprocessed;
    if (!status) {
      done.set(std::unexpected(status.error()));
    } else if (reply_) {
      done.set(std::move(*reply_));
    } else {
      done.set(fail(Code::internal, "the server ended the call without an answer"));
    }
  }

 private:
  std::shared_ptr<rpc::Link> link_;
  std::optional<rpc::Reply> reply_;
};

class StreamCall final : public ClientCall, public std::enable_shared_from_this<StreamCall> {
 public:
  using Item = Result<std::optional<rpc::Bytes>>;

  StreamCall(Process& process, std::shared_ptr<Lease> lease) : process_(process), lease_(std::move(lease)) {}

  void start(Frame frame, TimePoint deadline, const base::StopToken& stop) {
    stream_ = lease_->end().open(shared_from_this(), std::move(frame));
    if (deadline != base::kNoDeadline) {
      timer_ = process_.post_at(deadline, [weak = weak_from_this()] {
        if (auto self = weak.lock())
          self->give_up(base::Error(Code::deadline_exceeded, "the stream's deadline passed"));
      });
    }
    stop_ = stop.on_stop([weak = weak_from_this()] {
      if (auto self = weak.lock()) self->give_up(base::Error(Code::cancelled, "the stream was cancelled"));
    });
  }

  static Task<Item> read(std::shared_ptr<StreamCall> self) {
    if (!self->messages_.empty()) {
      auto message = std::move(self->messages_.front());
      self->messages_.pop_front();
      self->read_one(message.size());
      co_return Item(std::move(message));
    }
    if (self->ended_) co_return self->ending();
    base::OneShot<Item> item(self->process_);
    self->reader_.emplace(item);
    co_return co_await item;
  }

  void give_up(const base::Error& why) {
    if (ended_) return;
    lease_->end().abandon(stream_);
    messages_.clear();
    on_end(std::unexpected(why), false);
  }

  void on_message(rpc::Metadata, rpc::Bytes body) override {
    if (!reader_) {
      messages_.push_back(std::move(body));
      return;
    }
    read_one(body.size());
    std::exchange(reader_, std::nullopt)->set(Item(std::move(body)));
  }
  void on_end(Result<void> status, bool) override {
    if (ended_) return;
    ended_ = std::move(status);
    process_.cancel(timer_);
    stop_ = {};
    if (reader_) std::exchange(reader_, std::nullopt)->set(ending());
  }

  const std::shared_ptr<Lease>& lease() const { return lease_; }

 private:
  Item ending() const { return *ended_ ? Item(std::nullopt) : Item(std::unexpected(ended_->error())); }
  void read_one(std::size_t bytes) {
    Frame credit(Frame::Kind::credit, stream_);
    credit.credit = bytes;
    if (!ended_) lease_->end().send(std::move(credit));
  }

  Process& process_;
  const std::shared_ptr<Lease> lease_;
  std::uint32_t stream_ = 0;
  std::deque<rpc::Bytes> messages_;
  std::optional<Result<void>> ended_;
  std::optional<base::OneShot<Item>> reader_;
  base::TimerId timer_ = 0;
  base::StopRegistration stop_;
};

class ClientStreamEnd final : public rpc::ClientStream {
 public:
  explicit ClientStreamEnd(std::shared_ptr<StreamCall> call) : call_(std::move(call)) {}
  ~ClientStreamEnd() override { cancel(); }
  Task<Result<std::optional<rpc::Bytes>>> read() override { return StreamCall::read(call_); }
  void cancel() override { call_->give_up(base::Error(Code::cancelled, "the stream was cancelled")); }
  std::shared_ptr<rpc::Link> link() const override { return call_->lease()->end().link(); }

 private:
  const std::shared_ptr<StreamCall> call_;
};

class Channel final : public rpc::Channel, public std::enable_shared_from_this<Channel> {
 public:
  Channel(Network& network, Process& process, rpc::CallCredentials* credentials, std::function<rpc::Peer()> self,
          rpc::Url url, std::optional<rpc::Descriptor> socket)
      : network_(network),
        process_(process),
        credentials_(credentials),
        self_(std::move(self)),
        url_(std::move(url)),
        socket_(std::move(socket)) {}

  Task<Result<rpc::Reply>> unary(std::string method, rpc::Bytes request, rpc::CallOptions options) override {
    const auto self = shared_from_this();
    for (int attempt = 1;; ++attempt) {
      auto lease = co_await connect(method, request.size(), options.deadline, options.stop);
      if (!lease) co_return std::unexpected(lease.error());
      ClientEnd& end = (*lease)->end();
      const auto call = std::make_shared<UnaryCall>(process_, end.link());
      const auto stream = end.open(call, make_start(end, method, request, options));
      auto reply = co_await base::await_until(process_, call->done, options.deadline, options.stop);
      end.abandon(stream);
      if (!call->refused || attempt == kAttempts) co_return reply;
      if (lease_ == *lease) lease_.reset();  // it is shutting down
    }
  }

  Task<Result<std::unique_ptr<rpc::ClientStream>>> stream(std::string method, rpc::Bytes request,
                                                          rpc::CallOptions options) override {
    const auto self = shared_from_this();
    auto lease = co_await connect(method, request.size(), options.deadline, options.stop);
    if (!lease) co_return std::unexpected(lease.error());
    const auto call = std::make_shared<StreamCall>(process_, *lease);
    call->start(make_start((*lease)->end(), method, std::move(request), options), options.deadline, options.stop);
    co_return std::make_unique<ClientStreamEnd>(call);
  }

 private:
  using Connected = Result<std::shared_ptr<Lease>>;

  Frame make_start(ClientEnd& end, const std::string& method, rpc::Bytes request, const rpc::CallOptions& options) {
    Frame start(Frame::Kind::start, 0);
    start.method = method;
    start.body = std::move(request);
    if (credentials_ != nullptr) start.metadata = credentials_->for_call(*end.link());
    for (const auto& pair : options.metadata) start.metadata.insert(pair);
    start.files = options.descriptors;
    start.timeout = options.deadline == base::kNoDeadline ? base::Duration::max() : options.deadline - process_.now();
    return start;
  }

  Task<Connected> connect(const std::string& method, std::size_t size, TimePoint deadline, base::StopToken stop) {
    if (!process_.alive()) {
      co_await base::sleep_for(process_, kDeadCallDelay, stop);
      co_return fail(Code::unavailable, "{}: this process is dead", method);
    }
    if (size > kMaxMessage) {
      co_return fail(Code::resource_exhausted, "{}: the request has {} bytes, the limit is {}: send less", method, size,
                     kMaxMessage);
    }
    if (stop.stopped()) co_return fail(Code::cancelled, "{}: the call was cancelled", method);
    if (deadline <= process_.now()) co_return fail(Code::deadline_exceeded, "{}: the deadline passed", method);
    if (lease_ && !lease_->end().broken() && up_to_date()) co_return lease_;
    lease_.reset();  // streams keep theirs
    base::OneShot<Connected> connected(process_);
    waiting_.push_back(connected);
    if (waiting_.size() == 1) dial(process_.now() + network_.faults().dial_timeout, seconds(1));
    auto outcome = co_await base::await_until(process_, connected, deadline, std::move(stop));
    if (!outcome) co_return std::unexpected(outcome.error().wrap(method));
    co_return outcome;
  }

  bool local() const { return url_.local(); }

  void dial(TimePoint give_up, base::Duration retry) {
    process_.post_at(process_.now() + network_.latency(local()) * 2, [weak = weak_from_this(), give_up, retry] {
      if (auto self = weak.lock()) self->dialled(give_up, retry);
    });
  }

  void dialled(TimePoint give_up, base::Duration retry) {
    if (!process_.alive()) return settle(fail(Code::unavailable, "this process is dead"));
    const auto node = network_.node_of(url_, process_.node());
    if (!node) return settle(std::unexpected(node.error()));
    if (!local() && !network_.reachable(process_.node(), *node)) {
      if (process_.now() + retry > give_up)
        return settle(fail(Code::unavailable, "cannot connect to {}: timed out", url_.text));
      process_.post_at(process_.now() + retry, [weak = weak_from_this(), give_up, retry] {
        if (auto self = weak.lock()) self->dialled(give_up, retry * 2);  // as TCP's SYNs
      });
      return;
    }
    const auto listener = network_.find(url_, process_.node(), socket_);
    if (!listener || !listener->process().alive()) {
      return settle(fail(Code::unavailable, "cannot connect to {}: connection refused", url_.text));
    }
    settle(connect_to(listener));
  }

  // Both ends still are who they were when the connection was made. Real servers say so by a GOAWAY.
  bool up_to_date() const {
    const auto& seen = lease_->end().link()->peer();
    const auto listener = listener_.lock();
    return seen.ours == self_().ours && (!listener || seen.certificate == listener->peer().certificate);
  }

  std::shared_ptr<Lease> connect_to(const std::shared_ptr<ListenerState>& listener) {
    const auto connection = network_.next_connection();
    rpc::Peer server_seen = listener->peer();
    rpc::Peer client_seen = self_();
    std::swap(server_seen.ours, client_seen.ours);
    auto client =
        std::make_shared<ClientEnd>(network_, process_, connection, connection * 2, local(), std::move(server_seen));
    auto server = std::make_shared<ServerEnd>(network_, listener->process(), connection, connection * 2 + 1, local(),
                                              std::move(client_seen), listener);
    listener_ = listener;
    client->join(server);
    server->join(client);
    listener->accept(server);
    process_.log(fmt::format("c{} connects to {} at {}", connection, listener->process().label(), url_.text));
    lease_ = std::make_shared<Lease>(std::move(client));
    return lease_;
  }

  void settle(const Connected& outcome) {
    if (!outcome && process_.alive()) process_.log(outcome.error().message());
    const auto waiting = std::move(waiting_);
    waiting_.clear();
    for (const auto& waiter : waiting) waiter.set(outcome);
  }

  Network& network_;
  Process& process_;
  rpc::CallCredentials* const credentials_;
  const std::function<rpc::Peer()> self_;
  const rpc::Url url_;
  const std::optional<rpc::Descriptor> socket_;
  std::shared_ptr<Lease> lease_;
  std::weak_ptr<ListenerState> listener_;  // at the other end of it
  std::vector<base::OneShot<Connected>> waiting_;
};

class Listener final : public rpc::Listener {
 public:
  explicit Listener(std::shared_ptr<ListenerState> state) : state_(std::move(state)) {}
  ~Listener() override { state_->close(base::Error(Code::unavailable, "the listener was dropped")); }
  std::string url() const override { return state_->url; }
  Task<void> finish() override { return state_->finish(); }

 private:
  const std::shared_ptr<ListenerState> state_;
};

}  // namespace

Transport::Transport(Network& network, Process& process, rpc::CallCredentials* credentials,
                     std::function<rpc::Peer()> self)
    : network_(network), process_(process), credentials_(credentials), self_(std::move(self)) {
  network_.watch(process_);
}

Result<std::shared_ptr<rpc::Channel>> Transport::channel(const std::string& url,
                                                         std::optional<rpc::Descriptor> socket) {
  auto parsed = rpc::parse_url(url);
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->scheme == rpc::UrlScheme::inode && !socket) {
    return fail(Code::failed_precondition, "cannot reach {}: the socket's descriptor has to come with its URL", url);
  }
  if (parsed->scheme == rpc::UrlScheme::inode && socket->key() != *rpc::parse_inode_url(url)) {
    return fail(Code::invalid_argument, "cannot reach {}: the descriptor given is that of {}", url, socket->url());
  }
  std::erase_if(channels_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<rpc::Channel>& known = channels_[url];
  if (auto channel = known.lock()) return channel;
  auto channel =
      std::make_shared<Channel>(network_, process_, credentials_, self_, std::move(*parsed), std::move(socket));
  known = channel;
  return channel;
}

Result<std::unique_ptr<rpc::Listener>> Transport::listen(const std::string& url, const rpc::Services& services) {
  if (!process_.alive()) return fail(Code::unavailable, "cannot listen on '{}': this process is dead", url);
  auto parsed = rpc::parse_url(url);
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->scheme == rpc::UrlScheme::inode) {
    return fail(Code::invalid_argument, "cannot listen on '{}': listen on a path and hand out its descriptor", url);
  }
  auto state = std::make_shared<ListenerState>(network_, process_, services);
  state->peer = self_;
  auto where = network_.enlist(*parsed, state);
  if (!where) return std::unexpected(where.error());
  process_.log(fmt::format("listens on {}", *where));
  return std::make_unique<Listener>(std::move(state));
}

}  // namespace sim
