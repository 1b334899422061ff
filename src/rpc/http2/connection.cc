// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/connection.h"

#include <array>

#include "base/log.h"

namespace rpc::http2 {

using base::Code;
using base::Error;

namespace {

constexpr std::size_t kReadSize = 64 << 10;
constexpr std::size_t kWriteSize = 256 << 10;      // collected before the socket must take some
constexpr int kReadsPerTurn = 16;                  // then the others have their turn
constexpr std::int32_t kStreamWindow = 256 << 10;  // bytes a peer may send on a call before we read
constexpr std::int32_t kConnectionWindow = 4 << 20;

std::string_view view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// nghttp2 calls C functions; these lead back to the object.
struct Connection::Callbacks {
  static Connection& self(void* user_data) { return *static_cast<Connection*>(user_data); }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    self(user_data).on_begin_headers(*frame);
    return 0;
  }
  static int header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
                    const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* user_data) {
    const bool kept = self(user_data).on_header(*frame, view(name, name_size), view(value, value_size));
    return kept ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  static int frame_received(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    self(user_data).on_frame(*frame);
    return 0;
  }
  static int data(nghttp2_session*, std::uint8_t, StreamId id, const std::uint8_t* bytes, std::size_t size,
                  void* user_data) {
    nghttp2_session_consume_connection(self(user_data).session_, size);  // only a call may hold its sender back
    self(user_data).on_data(id, view(bytes, size));
    return 0;
  }
  static int stream_close(nghttp2_session*, StreamId id, std::uint32_t error, void* user_data) {
    self(user_data).on_stream_close(id, error);
    return 0;
  }
  static int frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    self(user_data).on_frame_sent(*frame);
    return 0;
  }

  static nghttp2_session_callbacks* table() {
    static nghttp2_session_callbacks* const callbacks = [] {
      nghttp2_session_callbacks* made = nullptr;
      nghttp2_session_callbacks_new(&made);
      nghttp2_session_callbacks_set_on_begin_headers_callback(made, begin_headers);
      nghttp2_session_callbacks_set_on_header_callback(made, header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(made, frame_received);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, data);
      nghttp2_session_callbacks_set_on_stream_close_callback(made, stream_close);
      nghttp2_session_callbacks_set_on_frame_send_callback(made, frame_sent);
      return made;
    }();
    return callbacks;
  }
};

Connection::Connection(base::Scheduler& scheduler, std::unique_ptr<ByteStream> stream, Side side, const Limits& limits)
    : scheduler_(scheduler),
      stream_(std::move(stream)),
      side_(side),
      limits_(limits),
      link_(std::make_shared<ConnectionLink>(scheduler, stream_->peer())) {
  stream_->on_descriptor([link = link_](Descriptor descriptor) { link->arrived(std::move(descriptor)); });
}

Connection::~Connection() {
  stream_->close();
  link_->broken(Error(Code::unavailable, "the connection was closed"));
  nghttp2_session_del(session_);
}

void Connection::start() {
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_peer_max_concurrent_streams(option, limits_.max_streams);  // until the peer says its own
  nghttp2_option_set_stream_reset_rate_limit(option, limits_.cancel_burst, limits_.cancel_rate);
  nghttp2_option_set_max_outbound_ack(option, 1000);
  nghttp2_option_set_max_continuations(option, 8);
  if (side_ == Side::server) {
    nghttp2_session_server_new2(&session_, Callbacks::table(), this, option);
  } else {
    nghttp2_session_client_new2(&session_, Callbacks::table(), this, option);
  }
  nghttp2_option_del(option);

  const std::array settings{
      nghttp2_settings_entry{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits_.max_streams},
      nghttp2_settings_entry{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      nghttp2_settings_entry{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
                             static_cast<std::uint32_t>(limits_.max_header_list)},
      nghttp2_settings_entry{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
  };
  // A server has no say in push.
  const std::size_t count = side_ == Side::server ? settings.size() - 1 : settings.size();
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), count);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  on_started();
  flush_later();
  wait_readable();
}

void Connection::wait_readable() {
  stream_->when_readable([weak = weak_from_this()](bool) {
    if (const auto self = weak.lock()) self->readable();
  });
}

void Connection::readable() {
  if (closed_) return;
  static thread_local std::array<char, kReadSize> buffer;
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const auto got = stream_->read(buffer);
    if (!got) return close(got.error());
    if (!*got) break;
    if (**got == 0) return close(Error(Code::unavailable, "the peer closed the connection"));
    received_ += **got;
    const auto taken = nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(buffer.data()), **got);
    if (taken < 0) {
      return close(Error(Code::unavailable, fmt::format("the peer does not speak HTTP/2 as it should: {}",
                                                        nghttp2_strerror(static_cast<int>(taken)))));
    }
    // A file's byte comes alone; after any other short read the socket is empty, or soon tells us that it is not.
    if (**got > 1 && **got < buffer.size()) break;
  }
  if (nghttp2_session_want_write(session_) != 0) flush_later();
  close_if_done();
  if (!closed_) wait_readable();
}

void Connection::flush_later() {
  if (flush_posted_ || write_blocked_ || closed_) return;
  flush_posted_ = true;
  scheduler_.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->flush();
  });
}

void Connection::flush() {
  flush_posted_ = false;
  while (!closed_ && !write_blocked_) {
    while (out_.size() - sent_ < kWriteSize) {
      const std::uint8_t* chunk = nullptr;
      const auto size = nghttp2_session_mem_send(session_, &chunk);
      if (size < 0) return close(Error(Code::internal, nghttp2_strerror(static_cast<int>(size))));
      if (size == 0) break;
      out_.append(view(chunk, static_cast<std::size_t>(size)));
    }
    if (drained()) break;
    const auto wrote = stream_->write(std::span(out_).subspan(sent_));
    if (!wrote) {
      readable();  // what the peer said before it left
      return close(wrote.error());
    }
    sent_ += *wrote;
    if (drained()) {
      out_.clear();
      sent_ = 0;
      if (out_.capacity() > kWriteSize * 2) out_.shrink_to_fit();
      continue;
    }
    if (sent_ >= kWriteSize) out_.erase(0, std::exchange(sent_, 0));
    if (*wrote > 0) continue;
    write_blocked_ = true;
    stream_->when_writable([weak = weak_from_this()](bool) {
      const auto self = weak.lock();
      if (!self) return;
      self->write_blocked_ = false;
      self->flush();
    });
  }
  close_if_done();
}

void Connection::close_if_done() {
  if (closed_ || !drained() || flush_posted_) return;
  if (shutting_down_ && idle() && nghttp2_session_want_write(session_) == 0) {
    return close(Error(Code::unavailable, "the connection was closed"));
  }
  if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) {
    close(Error(Code::unavailable, "the connection was closed after an HTTP/2 error"));
  }
}

void Connection::shut_down() {
  if (closed_ || std::exchange(shutting_down_, true)) return;
  if (side_ == Side::server) {
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                          NGHTTP2_NO_ERROR, nullptr, 0);
  }
  flush_later();
}

void Connection::close(Error why) {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();  // on_closed may drop the last other pointer
  base::log::debug("connection {}: {}", link_->id(), why.message());
  stream_->close();
  link_->broken(why);
  on_closed(why);
}

void Connection::reset_stream(StreamId id, std::uint32_t http2_error) {
  if (closed_) return;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, http2_error);
  flush_later();
}

void Connection::consume(StreamId id, std::size_t bytes) {
  if (closed_ || bytes == 0) return;
  nghttp2_session_consume_stream(session_, id, bytes);
  flush_later();
}

std::vector<nghttp2_nv> name_values(const Headers& headers) {
  std::vector<nghttp2_nv> pairs;
  pairs.reserve(headers.size());
  const auto bytes = [](const std::string& text) {
    return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(text.data()));
  };
  for (const auto& [name, value] : headers) {
    // Tokens change with every call and would only push useful entries out of HPACK's table.
    const std::uint8_t flags = value.size() > 256 ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
    pairs.push_back({bytes(name), bytes(value), name.size(), value.size(), flags});
  }
  return pairs;
}

}  // namespace rpc::http2
