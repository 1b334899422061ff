// SPDX-License-Identifier: Apache-2.0
// A peer for tests that does with bytes, files and HTTP/2 frames what it is told, good or bad.
#pragma once

#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "rpc/http2/dial.h"
#include "rpc/http2/wire.h"

namespace rpc::testing {

// Sends the bytes in one sendmsg with these files; false if the socket took none.
inline bool send_with_files(int socket, std::string_view bytes, std::span<const int> files) {
  std::vector<char> control(CMSG_SPACE(files.size() * sizeof(int)));
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!files.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    auto* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), files.data(), files.size() * sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(bytes.size());
}

inline base::UniqueFd connect_unix(const std::string& path) {
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = http2::unix_address(path);
  if (::connect(socket.get(), address.get(), address.length) != 0) std::abort();
  ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  return socket;
}

// An HTTP/2 session over a socket; pump() moves what there is to move.
class RawPeer {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;

  RawPeer(base::UniqueFd socket, http2::Side side) : socket_(std::move(socket)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
                      const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* self) {
          const auto text = [](const std::uint8_t* bytes, std::size_t size) {
            return std::string(reinterpret_cast<const char*>(bytes), size);
          };
          static_cast<RawPeer*>(self)->headers[frame->hd.stream_id][text(name, name_size)] = text(value, value_size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks,
                                                         [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
                                                           auto& peer = *static_cast<RawPeer*>(self);
                                                           if (frame->hd.type == NGHTTP2_GOAWAY) peer.goodbye = true;
                                                           if (peer.on_frame) peer.on_frame(*frame);
                                                           return 0;
                                                         });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, std::int32_t id, std::uint32_t error, void* self) {
          static_cast<RawPeer*>(self)->ended[id] = error;
          return 0;
        });
    if (side == http2::Side::client) {
      nghttp2_session_client_new(&session_, callbacks, this);
    } else {
      nghttp2_session_server_new(&session_, callbacks, this);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~RawPeer() { nghttp2_session_del(session_); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  // Queues a gRPC call with one message; no body: the call stays open.
  std::int32_t call(const std::string& method, const std::string& body, const Headers& more = {}) {
    const auto prefix = http2::message_prefix(body.size());
    bodies_.push_back(std::make_unique<std::string>(std::string(prefix.data(), prefix.size()) + body));
    Headers headers{{":method", "POST"}, {":scheme", "http"}, {":path", method},
                    {":authority", "x"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
    headers.insert(headers.end(), more.begin(), more.end());
    nghttp2_data_provider provider = {};
    provider.source.ptr = bodies_.back().get();
    provider.read_callback = [](nghttp2_session*, std::int32_t, std::uint8_t* into, std::size_t size,
                                std::uint32_t* flags, nghttp2_data_source* source, void*) -> ssize_t {
      auto& text = *static_cast<std::string*>(source->ptr);
      const auto part = std::min(size, text.size());
      std::copy_n(text.data(), part, into);
      text.erase(0, part);
      if (text.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(part);
    };
    const auto pairs = values(headers);
    return nghttp2_submit_request(session_, nullptr, pairs.data(), pairs.size(), &provider, nullptr);
  }

  // Queues an answer without a body.
  void answer(std::int32_t id, const Headers& headers) {
    const auto pairs = values(headers);
    nghttp2_submit_response(session_, id, pairs.data(), pairs.size(), nullptr);
  }

  // Takes what the session wants to send instead of sending it.
  std::string take_output() {
    std::string bytes;
    const std::uint8_t* chunk = nullptr;
    for (ssize_t size = 0; (size = nghttp2_session_mem_send(session_, &chunk)) > 0;) {
      bytes.append(reinterpret_cast<const char*>(chunk), static_cast<std::size_t>(size));
    }
    return bytes;
  }

  void pump() {
    out_ += take_output();
    if (!out_.empty()) {
      const auto sent = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) out_.erase(0, static_cast<std::size_t>(sent));
    }
    std::array<char, 65536> buffer;
    while (true) {
      const auto got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN)) closed = true;
      if (got <= 0) return;
      nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(buffer.data()),
                               static_cast<std::size_t>(got));
    }
  }

  std::string status(std::int32_t id) { return headers[id]["grpc-status"]; }
  int fd() const { return socket_.get(); }
  nghttp2_session* session() const { return session_; }

  std::map<std::int32_t, std::map<std::string, std::string>> headers;  // by stream
  std::map<std::int32_t, std::uint32_t> ended;
  std::function<void(const nghttp2_frame&)> on_frame;
  bool goodbye = false;
  bool closed = false;

 private:
  static std::vector<nghttp2_nv> values(const Headers& headers) {
    std::vector<nghttp2_nv> pairs;
    const auto bytes = [](const std::string& text) {
      return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(text.data()));
    };
    for (const auto& [name, value] : headers) {
      pairs.push_back({bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    return pairs;
  }

  base::UniqueFd socket_;
  nghttp2_session* session_ = nullptr;
  std::string out_;
  std::vector<std::unique_ptr<std::string>> bodies_;
};

}  // namespace rpc::testing
