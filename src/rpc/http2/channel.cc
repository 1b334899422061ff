// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/channel.h"

namespace rpc::http2 {

using base::Code;
using base::Error;
using base::fail;

namespace {

// A call the server did not look at (it was shutting down, say) is sent again on a new connection, this often.
constexpr int kAttempts = 3;

// Ends the call when its time is over or its owner says so, whoever reads at that moment.
class Http2ClientStream final : public ClientStream {
 public:
  Http2ClientStream(std::shared_ptr<Http2Channel> channel, std::shared_ptr<ClientConnection> connection,
                    std::shared_ptr<ClientCall> call, const std::string& method, base::TimePoint deadline,
                    const base::StopToken& stop)
      : channel_(std::move(channel)), connection_(std::move(connection)), call_(std::move(call)) {
    if (deadline != base::kNoDeadline) {
      const Error late(Code::deadline_exceeded, method + ": the deadline passed before the stream ended");
      timer_ = connection_->scheduler().post_at(
          deadline, [connection = connection_, call = call_, late] { connection->abandon(*call, late); });
    }
    registration_ = stop.on_stop([connection = connection_, call = call_, method] {
      connection->abandon(*call, Error(Code::cancelled, method + ": the call was cancelled"));
    });
  }

  ~Http2ClientStream() override {
    connection_->scheduler().cancel(timer_);
    cancel();
  }

  base::Task<base::Result<std::optional<Bytes>>> read() override {
    const auto call = call_;
    const auto connection = connection_;
    while (call->messages.empty()) {
      if (call->status) {
        if (!*call->status) co_return std::unexpected(call->status->error());
        co_return std::optional<Bytes>();
      }
      base::OneShot<bool> event(connection->scheduler());
      call->event.emplace(event);
      co_await event;
    }
    std::optional<Bytes> message(std::move(call->messages.front()));
    call->messages.pop_front();
    connection->took(*call);
    co_return std::move(message);
  }

  void cancel() override {
    connection_->abandon(*call_, Error(Code::cancelled, "the stream was cancelled by its reader"));
  }

  std::shared_ptr<Link> link() const override { return connection_->link(); }

 private:
  const std::shared_ptr<Http2Channel> channel_;  // a channel closes its connection when dropped
  const std::shared_ptr<ClientConnection> connection_;
  const std::shared_ptr<ClientCall> call_;
  base::TimerId timer_ = 0;
  base::StopRegistration registration_;
};

std::string authority_of(const Url& url) {
  if (url.local()) return "localhost";  // what gRPC's clients call a unix socket
  const bool ipv6 = url.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", ipv6 ? "[" : "", url.host.empty() ? "localhost" : url.host, ipv6 ? "]" : "",
                     url.port);
}

}  // namespace

Http2Channel::Http2Channel(std::shared_ptr<ClientCore> core, Url url, std::optional<Descriptor> socket)
    : core_(std::move(core)), url_(std::move(url)), socket_(std::move(socket)) {}

Http2Channel::~Http2Channel() {
  if (connection_) connection_->close(Error(Code::unavailable, "its channel was dropped"));
}

Error Http2Channel::local_error(const Error& error, const std::string& method) const {
  if (error.code() == Code::deadline_exceeded) {
    return {error.code(), fmt::format("{} at {}: no answer came before the deadline", method, url_.text)};
  }
  return {error.code(), fmt::format("{} at {}: {}", method, url_.text, error.message())};
}

base::Task<void> Http2Channel::dial(std::shared_ptr<Http2Channel> self) {
  auto& core = *self->core_;
  const auto deadline = core.loop.now() + core.limits.dial_timeout;
  Connected outcome = fail(Code::unavailable, "");
  const std::uint64_t epoch = core.security.epoch();
  auto socket = co_await core.dialer.dial(self->url_, self->socket_, deadline);
  if (socket) {
    auto secured = co_await core.security.secure(std::move(*socket), Side::client, deadline);
    if (secured) {
      auto connection =
          std::make_shared<ClientConnection>(core.loop, std::move(*secured), core.limits, authority_of(self->url_));
      connection->start();
      self->connection_ = connection;
      self->epoch_ = epoch;
      outcome = std::move(connection);
    } else {
      outcome = fail(secured.error().code(), "cannot connect to {}: {}", self->url_.text, secured.error().message());
    }
  } else {
    outcome = fail(Code::unavailable, "cannot connect to {}: {}", self->url_.text, socket.error().message());
  }
  self->dialing_ = false;
  for (auto& waiting : std::exchange(self->waiting_, {})) waiting.set(outcome);
}

base::Task<Http2Channel::Connected> Http2Channel::connected(base::TimePoint deadline, base::StopToken stop) {
  if (connection_ && connection_->usable() && epoch_ == core_->security.epoch()) co_return connection_;
  base::OneShot<Connected> waiting(core_->loop);
  waiting_.push_back(waiting);
  if (!std::exchange(dialing_, true)) {
    connection_.reset();  // one that is full, of another epoch or says goodbye belongs to its last calls
    base::spawn_detached(dial(shared_from_this()));
  }
  auto outcome = co_await base::await_until(core_->loop, waiting, deadline, std::move(stop));
  if (!outcome && outcome.error().code() == Code::deadline_exceeded) {
    co_return fail(Code::deadline_exceeded, "the deadline passed while connecting to {}", url_.text);
  }
  co_return outcome;
}

base::Task<base::Result<Http2Channel::Started>> Http2Channel::start(const std::string& method, Bytes request,
                                                                    const CallOptions& options, bool unary) {
  if (request.size() > core_->limits.max_message) {
    co_return fail(Code::resource_exhausted, "{}: the request has {} bytes, the limit is {}: send less", method,
                   request.size(), core_->limits.max_message);
  }
  auto connection = co_await connected(options.deadline, options.stop);
  if (!connection) co_return std::unexpected(connection.error());
  Metadata metadata = core_->credentials.for_call(*(*connection)->link());
  for (const auto& pair : options.metadata) metadata.insert(pair);
  for (const auto& [key, value] : metadata) {
    if (auto valid = check_metadata(key, value); !valid) co_return std::unexpected(valid.error().wrap(method));
  }
  auto call = std::make_shared<ClientCall>(core_->loop, core_->limits.max_message, std::move(request));
  call->unary = unary;
  (*connection)->start_call(call, method, metadata, options.descriptors, options.deadline);
  co_return Started{std::move(*connection), std::move(call)};
}

base::Task<base::Result<Reply>> Http2Channel::unary(std::string method, Bytes request, CallOptions options) {
  const auto self = shared_from_this();
  for (int attempt = 1;; ++attempt) {
    auto started = co_await start(method, std::move(request), options, true);
    if (!started) co_return std::unexpected(started.error());
    auto& [connection, call] = *started;
    const auto ended = co_await base::await_until(core_->loop, call->ended, options.deadline, options.stop);
    if (!call->status) {  // it was our deadline or our stop
      const Error error = local_error(ended.error(), method);
      connection->abandon(*call, error);
      co_return std::unexpected(error);
    }
    if (call->unprocessed && attempt < kAttempts) {
      request = std::move(call->body);
      continue;
    }
    if (!*call->status) co_return std::unexpected(call->status->error());
    if (call->messages.empty()) {
      co_return fail(Code::internal, "{} at {}: the server answered OK and sent no message", method, url_.text);
    }
    Reply reply;
    reply.body = std::move(call->messages.front());
    reply.metadata = std::move(call->metadata);
    reply.link = connection->link();
    co_return std::move(reply);
  }
}

base::Task<base::Result<std::unique_ptr<ClientStream>>> Http2Channel::stream(std::string method, Bytes request,
                                                                             CallOptions options) {
  const auto self = shared_from_this();
  auto started = co_await start(method, std::move(request), options, false);
  if (!started) co_return std::unexpected(started.error());
  co_return std::make_unique<Http2ClientStream>(self, started->connection, started->call, method, options.deadline,
                                                options.stop);
}

}  // namespace rpc::http2
