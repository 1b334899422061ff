// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/server_connection.h"

#include <deque>

#include "base/log.h"
#include "rpc/http2/wire.h"

namespace rpc::http2 {

using base::Code;
using base::Error;
using base::fail;

namespace {

constexpr std::size_t kStreamQueue = 64 << 10;  // bytes a handler may write ahead of its client
constexpr std::size_t kMessageText = 6 << 10;   // bytes of grpc-message: clients refuse more than 8 KiB of trailers

std::string status_text(const std::string& message) {
  auto text = percent_encode(message);
  if (text.size() <= kMessageText) return text;
  text.resize(kMessageText);
  if (const auto escape = text.find('%', kMessageText - 2); escape != std::string::npos) text.resize(escape);
  return text;
}

}  // namespace

// One call. Lives while its stream is open or its handler runs.
class ServerConnection::Call final : public ServerStream, public std::enable_shared_from_this<Call> {
 public:
  // The connection outlives the call: it owns open streams, and handlers own the connection.
  Call(ServerConnection& connection, StreamId id)
      : reader(connection.limits().max_message), connection_(connection), id_(id) {
    context.stop = stop.token();
    context.link = connection.link();
  }

  base::Task<base::Result<void>> write(Bytes message, std::vector<Descriptor> descriptors) override {
    const auto self = shared_from_this();
    if (gone_ || ended_) co_return gone();
    if (auto fits = check_size(message); !fits) co_return fits;
    push(std::move(message), std::move(descriptors));
    if (queued_ <= kStreamQueue) co_return base::Result<void>{};
    base::OneShot<base::Result<void>> room(connection_.scheduler());
    room_.emplace(room);
    co_return co_await room;
  }

  // Sends the one message of a unary call and ends it.
  void reply(Bytes message) {
    if (gone_ || ended_) return;
    if (auto fits = check_size(message); !fits) return end(fits);
    push(std::move(message), std::move(context.reply_descriptors));
    end({});
  }

  // Ends the call; the first end counts.
  void end(const base::Result<void>& outcome) {
    if (gone_ || std::exchange(ended_, true)) return;
    trailers_.emplace_back("grpc-status", fmt::format("{}", outcome ? 0 : static_cast<int>(outcome.error().code())));
    if (!outcome) trailers_.emplace_back("grpc-message", status_text(outcome.error().message()));
    if (headers_sent_) {
      nghttp2_session_resume_data(connection_.session(), id_);
    } else {
      submit_headers(nullptr);
    }
    connection_.flush_later();
  }

  // For a peer that speaks HTTP/2 but not gRPC.
  void refuse(int http_status, const std::string& why) {
    http_status_ = http_status;
    end(fail(Code::internal, "{}", why));
  }

  // The stream is closed: nothing more can be sent.
  void close(const std::string& why) {
    if (std::exchange(gone_, true)) return;
    why_gone_ = why;
    chunks_.clear();
    if (room_) std::exchange(room_, std::nullopt)->set(gone());
    connection_.scheduler().post([self = shared_from_this()] { self->stop.request_stop(); });
  }

  bool ended() const { return ended_; }
  StreamId id() const { return id_; }

  ServerCall context;
  base::StopSource stop;
  const std::variant<UnaryHandler, StreamHandler>* handler = nullptr;
  MessageReader reader;
  std::optional<Bytes> request;
  std::size_t header_bytes = 0;
  std::size_t counted = 0;  // of the connection's incomplete_
  bool started = false;     // its handler has been asked for
  bool remote_closed = false;
  std::string http_method;
  std::string content_type;

 private:
  std::unexpected<Error> gone() const {
    return fail(Code::cancelled, "{}: nobody listens to this call any more: {}", context.method,
                why_gone_.empty() ? "it has ended" : why_gone_);
  }

  base::Result<void> check_size(const Bytes& message) const {
    const auto limit = connection_.limits().max_message;
    if (message.size() <= limit) return {};
    return fail(Code::resource_exhausted, "{}: the answer has {} bytes, the limit is {}: ask for less", context.method,
                message.size(), limit);
  }

  void push(Bytes message, std::vector<Descriptor> descriptors) {
    for (auto& descriptor : descriptors) connection_.stream().attach(std::move(descriptor));
    const auto prefix = message_prefix(message.size());
    queued_ += prefix.size() + message.size();
    chunks_.emplace_back(prefix.data(), prefix.size());
    if (!message.empty()) chunks_.push_back(std::move(message));
    if (headers_sent_) {
      nghttp2_session_resume_data(connection_.session(), id_);
    } else {
      nghttp2_data_provider provider = {};
      provider.source.ptr = this;
      provider.read_callback = [](nghttp2_session*, StreamId, std::uint8_t* into, std::size_t size,
                                  std::uint32_t* flags, nghttp2_data_source* source, void*) -> ssize_t {
        return static_cast<Call*>(source->ptr)->produce(into, size, flags);
      };
      submit_headers(&provider);
    }
    connection_.flush_later();
  }

  // Without a provider the headers are the whole answer.
  void submit_headers(const nghttp2_data_provider* provider) {
    headers_sent_ = true;
    Headers headers{{":status", fmt::format("{}", http_status_)}, {"content-type", "application/grpc"}};
    for (const auto& [key, value] : context.reply_metadata) {
      if (auto valid = check_metadata(key, value); !valid) {
        base::log::warning("{}: left out of the answer: {}", context.method, valid.error().message());
        continue;
      }
      headers.emplace_back(key, binary_key(key) ? base64_encode(value) : value);
    }
    if (provider == nullptr) headers.insert(headers.end(), trailers_.begin(), trailers_.end());
    const auto pairs = name_values(headers);
    nghttp2_submit_response(connection_.session(), id_, pairs.data(), pairs.size(), provider);
  }

  ssize_t produce(std::uint8_t* into, std::size_t size, std::uint32_t* flags) {
    std::size_t copied = 0;
    while (copied < size && !chunks_.empty()) {
      const auto& chunk = chunks_.front();
      const auto part = std::min(size - copied, chunk.size() - offset_);
      std::copy_n(chunk.data() + offset_, part, into + copied);
      copied += part;
      offset_ += part;
      if (offset_ == chunk.size()) {
        chunks_.pop_front();
        offset_ = 0;
      }
    }
    queued_ -= copied;
    if (room_ && queued_ <= kStreamQueue / 2) std::exchange(room_, std::nullopt)->set({});
    if (chunks_.empty() && ended_) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const auto pairs = name_values(trailers_);
      nghttp2_submit_trailer(connection_.session(), id_, pairs.data(), pairs.size());
    } else if (copied == 0) {
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(copied);
  }

  ServerConnection& connection_;
  const StreamId id_;
  int http_status_ = 200;
  bool headers_sent_ = false;
  bool ended_ = false;  // the handler's last word is said
  bool gone_ = false;   // the stream is closed
  std::string why_gone_;
  Headers trailers_;
  std::deque<std::string> chunks_;
  std::size_t offset_ = 0;  // into the first chunk
  std::size_t queued_ = 0;
  std::optional<base::OneShot<base::Result<void>>> room_;
};

ServerConnection::ServerConnection(std::shared_ptr<ServerCore> core, std::unique_ptr<ByteStream> stream,
                                   std::uint64_t epoch)
    : Connection(core->scheduler, std::move(stream), Side::server, core->limits),
      core_(std::move(core)),
      epoch_(epoch) {}

ServerConnection::~ServerConnection() { scheduler().cancel(preface_timer_); }

void ServerConnection::on_started() {
  preface_timer_ =
      scheduler().post_at(scheduler().now() + limits().preface_timeout, [weak = std::weak_ptr(shared_from_this())] {
        if (const auto self = weak.lock()) {
          self->close(Error(Code::deadline_exceeded, "the peer connected and did not say that it speaks HTTP/2"));
        }
      });
}

ServerConnection::Call* ServerConnection::find(StreamId id) const {
  const auto found = calls_.find(id);
  return found == calls_.end() ? nullptr : found->second.get();
}

void ServerConnection::on_begin_headers(const nghttp2_frame& frame) {
  if (frame.hd.type != NGHTTP2_HEADERS || frame.headers.cat != NGHTTP2_HCAT_REQUEST) return;
  const StreamId id = frame.hd.stream_id;
  if (core_->closing || running_ >= limits().max_streams) return reset_stream(id, NGHTTP2_REFUSED_STREAM);
  calls_.emplace(id, std::make_shared<Call>(*this, id));
}

bool ServerConnection::on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) {
  auto* const call = find(frame.hd.stream_id);
  if (call == nullptr || frame.hd.type != NGHTTP2_HEADERS || frame.headers.cat != NGHTTP2_HCAT_REQUEST) return true;
  call->header_bytes += name.size() + value.size() + 32;
  if (call->header_bytes > limits().max_header_list) return true;  // answered when the last of them has come
  if (name == ":path") {
    call->context.method = value;
  } else if (name == ":method") {
    call->http_method = value;
  } else if (name == "content-type") {
    call->content_type = value;
  } else if (name == "grpc-encoding") {
    call->reader.set_encoding(value);
  } else if (name == "grpc-timeout") {
    if (const auto timeout = decode_timeout(value)) {
      call->context.deadline = base::saturating_add(scheduler().now(), *timeout);
    } else {
      call->end(fail(Code::invalid_argument, "grpc-timeout '{}': write at most eight digits and a unit of HMSmun",
                     percent_encode(value)));
    }
  } else {
    add_header(call->context.metadata, name, value);
  }
  return true;
}

void ServerConnection::on_frame(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_SETTINGS) {
    scheduler().cancel(std::exchange(preface_timer_, 0));
    return;
  }
  if (frame.hd.type != NGHTTP2_HEADERS && frame.hd.type != NGHTTP2_DATA) return;
  auto* const call = find(frame.hd.stream_id);
  if (call == nullptr) return;
  const bool last = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (last) call->remote_closed = true;
  if (frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST) headers_complete(*call);
  if (last && !call->ended()) request_complete(*call);
}

void ServerConnection::headers_complete(Call& call) {
  if (call.header_bytes > limits().max_header_list) {
    return call.end(fail(Code::resource_exhausted,
                         "the call's headers have {} bytes, the limit is {}: send less metadata", call.header_bytes,
                         limits().max_header_list));
  }
  // Compressed headers may be many times what was sent for them.
  call.counted = call.header_bytes;
  incomplete_ += call.counted;
  if (incomplete_ > limits().max_incomplete) {
    incomplete_ -= std::exchange(call.counted, 0);
    call.context.metadata.clear();
    return call.end(fail(Code::resource_exhausted,
                         "{} bytes of unfinished requests wait on one connection, the limit is {}", incomplete_,
                         limits().max_incomplete));
  }
  if (call.http_method != "POST") return call.refuse(405, "gRPC calls are made with POST");
  if (!call.content_type.starts_with("application/grpc")) {
    return call.refuse(415, "gRPC calls have the content-type application/grpc");
  }
  const auto found = core_->services.find(call.context.method);
  if (found == core_->services.end()) {
    return call.end(fail(Code::unimplemented, "method {} is not served here: check the address or the version",
                         percent_encode(call.context.method)));
  }
  call.handler = &found->second;
}

void ServerConnection::on_data(StreamId id, std::string_view bytes) {
  consume(id, bytes.size());  // memory is bounded by max_message and max_incomplete, not by windows
  auto* const call = find(id);
  if (call == nullptr || call->ended()) return;
  incomplete_ -= std::exchange(call->counted, 0);
  const auto fed = call->reader.feed(bytes, [call](Bytes message) {
    if (call->request) {
      return call->end(
          fail(Code::unimplemented, "{}: a second message came: calls here take one", call->context.method));
    }
    call->request = std::move(message);
  });
  if (!fed) return call->end(std::unexpected(fed.error()));
  call->counted = call->header_bytes + call->reader.held() + (call->request ? call->request->size() : 0);
  incomplete_ += call->counted;
  if (incomplete_ > limits().max_incomplete) {
    call->end(fail(Code::resource_exhausted, "{} bytes of unfinished requests wait on one connection, the limit is {}",
                   incomplete_, limits().max_incomplete));
    incomplete_ -= std::exchange(call->counted, 0);
  }
}

void ServerConnection::request_complete(Call& call) {
  incomplete_ -= std::exchange(call.counted, 0);
  if (!call.request || !call.reader.between_messages()) {
    return call.end(fail(Code::internal, "{}: the request ended before its message was whole", call.context.method));
  }
  call.started = true;
  ++running_;
  // A goodbye that refuses nothing that is on its way: the client closes the connection after its last call.
  if (epoch_ != core_->security.epoch() && !std::exchange(dismissed_, true)) {
    nghttp2_submit_shutdown_notice(session());
    flush_later();
  }
  scheduler().post(
      [self = std::static_pointer_cast<ServerConnection>(shared_from_this()), kept = call.shared_from_this()] {
        if (self->core_->closing) {
          --self->running_;
          kept->end(fail(Code::unavailable, "the server is shutting down"));
          return;
        }
        self->core_->handlers.spawn(run(self, kept));
      });
}

base::Task<void> ServerConnection::run(std::shared_ptr<ServerConnection> self, std::shared_ptr<Call> call) {
  Bytes request = std::move(*call->request);
  if (const auto* unary = std::get_if<UnaryHandler>(call->handler)) {
    auto answer = co_await (*unary)(call->context, std::move(request));
    if (answer) {
      call->reply(std::move(*answer));
    } else {
      call->end(std::unexpected(answer.error()));
    }
  } else {
    const auto& handler = std::get<StreamHandler>(*call->handler);
    call->end(co_await handler(call->context, std::move(request), *call));
  }
  --self->running_;
  self->flush_later();  // a connection that is shutting down closes after the last call
}

void ServerConnection::on_stream_close(StreamId id, std::uint32_t http2_error) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  const auto call = found->second;
  incomplete_ -= std::exchange(call->counted, 0);
  calls_.erase(found);
  call->close(http2_error == NGHTTP2_CANCEL ? "the client cancelled it" : "the client ended it");
}

void ServerConnection::on_frame_sent(const nghttp2_frame& frame) {
  if (frame.hd.type != NGHTTP2_HEADERS || (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
  // The answer came before the whole question: spare the client the rest.
  if (const auto* call = find(frame.hd.stream_id); call != nullptr && !call->remote_closed) {
    nghttp2_submit_rst_stream(session(), NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR);
  }
}

void ServerConnection::on_closed(const base::Error& why) {
  scheduler().cancel(std::exchange(preface_timer_, 0));
  for (const auto& [id, call] : std::exchange(calls_, {})) call->close(why.message());
  core_->connections.erase(std::static_pointer_cast<ServerConnection>(shared_from_this()));
  if (core_->connections.empty() && core_->all_gone) std::exchange(core_->all_gone, std::nullopt)->set(true);
}

void ServerConnection::stop_calls() {
  const auto calls = calls_;
  for (const auto& [id, call] : calls) {
    if (call->started) {
      call->stop.request_stop();
    } else {
      call->end(fail(Code::unavailable, "the server is shutting down"));
    }
  }
}

}  // namespace rpc::http2
