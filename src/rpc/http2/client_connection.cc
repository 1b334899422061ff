// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/client_connection.h"

#include <charconv>

namespace rpc::http2 {

using base::Code;
using base::Error;
using base::fail;

namespace {

constexpr std::string_view kUserAgent = "grpc-c++-patchbay/0.1.0";

ssize_t produce_request(nghttp2_session*, StreamId, std::uint8_t* into, std::size_t size, std::uint32_t* flags,
                        nghttp2_data_source* source, void*) {
  auto& call = *static_cast<ClientCall*>(source->ptr);
  std::size_t copied = 0;
  const auto copy = [&](const char* from, std::size_t available) {
    const auto part = std::min(size - copied, available);
    std::copy_n(from, part, into + copied);
    copied += part;
    call.sent += part;
  };
  if (call.sent < kPrefixSize) copy(call.prefix.data() + call.sent, kPrefixSize - call.sent);
  if (call.sent >= kPrefixSize) {
    const auto done = call.sent - kPrefixSize;
    copy(call.body.data() + done, call.body.size() - done);
  }
  if (call.sent == kPrefixSize + call.body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(copied);
}

}  // namespace

ClientConnection::ClientConnection(base::Scheduler& scheduler, std::unique_ptr<ByteStream> stream, const Limits& limits,
                                   std::string authority)
    : Connection(scheduler, std::move(stream), Side::client, limits), authority_(std::move(authority)) {}

ClientConnection::~ClientConnection() { scheduler().cancel(ping_timer_); }

bool ClientConnection::usable() const {
  if (closed() || goodbye_ || nghttp2_session_check_request_allowed(session()) == 0) return false;
  // The server still counts calls that have ended here while their handlers undo: a tenth is left to them.
  const std::uint32_t limit = nghttp2_session_get_remote_settings(session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return calls_.size() < limit - limit / 10;
}

void ClientConnection::start_call(const std::shared_ptr<ClientCall>& call, std::string_view method,
                                  const Metadata& metadata, const std::vector<Descriptor>& descriptors,
                                  base::TimePoint deadline) {
  Headers headers{{":method", "POST"},
                  {":scheme", stream().encrypted() ? "https" : "http"},
                  {":path", std::string(method)},
                  {":authority", authority_},
                  {"te", "trailers"},
                  {"content-type", "application/grpc"},
                  {"user-agent", std::string(kUserAgent)}};
  if (deadline != base::kNoDeadline) {
    headers.emplace_back("grpc-timeout", encode_timeout(deadline - scheduler().now()));
  }
  for (const auto& [key, value] : metadata) headers.emplace_back(key, binary_key(key) ? base64_encode(value) : value);

  nghttp2_data_provider provider = {};
  provider.source.ptr = call.get();
  provider.read_callback = produce_request;
  const auto pairs = name_values(headers);
  const auto id = nghttp2_submit_request(session(), nullptr, pairs.data(), pairs.size(), &provider, nullptr);
  if (id < 0) {
    call->unprocessed = true;
    return end(*call, fail(Code::unavailable, "{}", nghttp2_strerror(id)));
  }
  call->id = id;
  calls_.emplace(id, call);
  for (const auto& descriptor : descriptors) stream().attach(descriptor);
  flush_later();
}

ClientCall* ClientConnection::find(StreamId id) const {
  const auto found = calls_.find(id);
  return found == calls_.end() ? nullptr : found->second.get();
}

void ClientConnection::end(ClientCall& call, base::Result<void> status) {
  if (call.status) return;
  call.status = status;
  call.ended.set(std::move(status));
  if (call.event) std::exchange(call.event, std::nullopt)->set(true);
}

void ClientConnection::abandon(ClientCall& call, const base::Error& why) {
  if (call.status) return;
  end(call, std::unexpected(why));
  call.messages.clear();
  reset_stream(call.id, NGHTTP2_CANCEL);
}

void ClientConnection::took(ClientCall& call) {
  if (call.messages.empty()) consume(call.id, std::exchange(call.held, 0));
}

void ClientConnection::on_begin_headers(const nghttp2_frame& frame) {
  if (auto* call = find(frame.hd.stream_id)) call->header_bytes = 0;
}

bool ClientConnection::on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) {
  auto* const call = find(frame.hd.stream_id);
  if (call == nullptr || call->status) return true;
  call->header_bytes += name.size() + value.size() + 32;
  if (call->header_bytes > limits().max_header_list) {
    abandon(*call,
            Error(Code::resource_exhausted,
                  fmt::format("the answer's headers have more than {} bytes, the limit", limits().max_header_list)));
    return true;
  }
  if (name == ":status") {
    call->http_status = 0;
    std::from_chars(value.data(), value.data() + value.size(), call->http_status);
  } else if (name == "grpc-status") {
    call->grpc_status = value;
  } else if (name == "grpc-message") {
    call->grpc_message = value;
  } else if (name == "content-type") {
    call->content_type = value;
  } else if (name == "grpc-encoding") {
    call->reader.set_encoding(value);
  } else if (!call->headers_complete) {
    add_header(call->metadata, name, value);
  }
  return true;
}

void ClientConnection::on_frame(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_GOAWAY) {
    goodbye_ = true;
    shut_down();
    return;
  }
  auto* const call = find(frame.hd.stream_id);
  if (call == nullptr) return;
  if (frame.hd.type == NGHTTP2_HEADERS) {
    if (call->http_status >= 100 && call->http_status < 200) {  // interim: the real answer follows
      call->metadata.clear();
    } else {
      call->headers_complete = true;
    }
  }
  const bool last = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (last && (frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA) &&
      nghttp2_session_get_stream_local_close(session(), call->id) == 0) {
    reset_stream(call->id, NGHTTP2_NO_ERROR);  // answered before it had the whole question: keep the rest
  }
}

void ClientConnection::on_data(StreamId id, std::string_view bytes) {
  auto* const call = find(id);
  if (call == nullptr || call->status || call->http_status != 200) return consume(id, bytes.size());
  const auto fed = call->reader.feed(bytes, [call](Bytes message) { call->messages.push_back(std::move(message)); });
  if (!fed) {
    consume(id, bytes.size());
    return abandon(*call, fed.error());
  }
  if (call->unary && call->messages.size() > 1) {
    return abandon(*call, Error(Code::internal, "the server answered a call for one message with several"));
  }
  // A stream's sender is held back while its reader has something to read.
  if (call->unary || call->messages.empty()) {
    consume(id, bytes.size());
  } else {
    call->held += bytes.size();
  }
  if (!call->messages.empty() && call->event) std::exchange(call->event, std::nullopt)->set(true);
}

base::Result<void> ClientConnection::outcome(const ClientCall& call, std::uint32_t http2_error) const {
  if (!call.grpc_status.empty()) {
    const Code code = code_of_status(call.grpc_status);
    if (code != Code::ok) return std::unexpected(Error(code, percent_decode(call.grpc_message)));
    if (call.reader.between_messages()) return {};
    return fail(Code::internal, "the answer ended within a message");
  }
  if (call.http_status != 0 && call.http_status != 200) {
    return fail(code_of_http_status(call.http_status), "the server answered with HTTP status {}, not as gRPC",
                call.http_status);
  }
  if (http2_error != NGHTTP2_NO_ERROR) {
    return fail(code_of_reset(http2_error), "the server reset the call: {}", name_of_reset(http2_error));
  }
  if (call.http_status == 200 && !call.content_type.starts_with("application/grpc")) {
    return fail(Code::unknown, "the server answered with content-type '{}', not as gRPC",
                percent_encode(call.content_type));
  }
  return fail(Code::internal, "the server ended the call without a status");
}

void ClientConnection::on_stream_close(StreamId id, std::uint32_t http2_error) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  const auto call = found->second;
  calls_.erase(found);
  call->unprocessed = !call->status && !call->headers_complete &&
                      (http2_error == NGHTTP2_REFUSED_STREAM || (goodbye_ && call->sent == 0));
  end(*call, outcome(*call, http2_error));
  if (goodbye_ && calls_.empty()) flush_later();
}

void ClientConnection::on_closed(const base::Error& why) {
  scheduler().cancel(std::exchange(ping_timer_, 0));
  for (const auto& [id, call] : std::exchange(calls_, {})) {
    call->unprocessed = call->sent == 0 && !call->headers_complete;
    end(*call, fail(Code::unavailable, "the connection broke: {}", why.message()));
  }
}

void ClientConnection::on_started() { watch(); }

void ClientConnection::watch() {
  if (limits().ping_interval <= base::Duration::zero()) return;
  ping_timer_ = scheduler().post_at(
      scheduler().now() + limits().ping_interval,
      [weak = std::weak_ptr(std::static_pointer_cast<ClientConnection>(shared_from_this())), seen = received()] {
        const auto self = weak.lock();
        if (!self || self->closed()) return;
        if (self->received() != seen) return self->watch();
        nghttp2_submit_ping(self->session(), NGHTTP2_FLAG_NONE, nullptr);
        self->flush_later();
        self->ping_timer_ =
            self->scheduler().post_at(self->scheduler().now() + self->limits().ping_timeout, [weak, seen] {
              if (const auto waiting = weak.lock()) waiting->check_answer(seen);
            });
      });
}

void ClientConnection::check_answer(std::uint64_t received_then) {
  if (closed()) return;
  if (received() != received_then) return watch();
  close(Error(Code::unavailable, fmt::format("the peer did not answer a ping within {} ms",
                                             limits().ping_timeout / std::chrono::milliseconds(1))));
}

}  // namespace rpc::http2
