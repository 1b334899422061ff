// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 connection: bytes in, bytes out, and what both ends share. nghttp2 does frames, HPACK and flow control.
//
// Output is collected and written once a turn of the loop, so what several calls say in one turn is one system call.
// Nothing here runs a user's code inside nghttp2: handlers and waiters are resumed from the scheduler.
#pragma once

#include <nghttp2/nghttp2.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/scheduler.h"
#include "rpc/http2/byte_stream.h"
#include "rpc/http2/limits.h"
#include "rpc/http2/link.h"

namespace rpc::http2 {

using StreamId = std::int32_t;
using Headers = std::vector<std::pair<std::string, std::string>>;

// Owned by shared pointers; closes when the last is gone. start() must be called once, on a shared object.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  virtual ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  // Breaks the connection now: every call on it ends with this error.
  void close(base::Error why);
  // Tells the peer that no new calls are taken; closes when the last one has ended.
  void shut_down();

  bool closed() const { return closed_; }
  const std::shared_ptr<ConnectionLink>& link() const { return link_; }
  const Limits& limits() const { return limits_; }
  base::Scheduler& scheduler() const { return scheduler_; }
  // Bytes not yet taken by the stream.
  bool drained() const { return sent_ == out_.size(); }

 protected:
  Connection(base::Scheduler& scheduler, std::unique_ptr<ByteStream> stream, Side side, const Limits& limits);

  nghttp2_session* session() const { return session_; }
  ByteStream& stream() const { return *stream_; }
  // Has the output written at the end of this turn.
  void flush_later();
  void reset_stream(StreamId id, std::uint32_t http2_error);
  // Lets the peer send this much more on the call.
  void consume(StreamId id, std::size_t bytes);
  // How many bytes have come so far: anything at all proves that the peer lives.
  std::uint64_t received() const { return received_; }

  // What nghttp2 found in the bytes. on_header and on_data return false to have the stream reset.
  virtual void on_begin_headers(const nghttp2_frame& frame) = 0;
  virtual bool on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) = 0;
  virtual void on_frame(const nghttp2_frame& frame) = 0;
  virtual void on_data(StreamId id, std::string_view bytes) = 0;
  virtual void on_stream_close(StreamId id, std::uint32_t http2_error) = 0;
  virtual void on_frame_sent(const nghttp2_frame& frame) = 0;
  virtual void on_started() {}
  virtual void on_closed(const base::Error& why) = 0;
  virtual bool idle() const = 0;  // no calls

 private:
  struct Callbacks;

  void wait_readable();
  void readable();
  void flush();
  void close_if_done();

  base::Scheduler& scheduler_;
  std::unique_ptr<ByteStream> stream_;
  const Side side_;
  const Limits limits_;
  std::shared_ptr<ConnectionLink> link_;
  nghttp2_session* session_ = nullptr;
  std::string out_;
  std::size_t sent_ = 0;  // of out_
  std::uint64_t received_ = 0;
  bool flush_posted_ = false;
  bool write_blocked_ = false;
  bool shutting_down_ = false;
  bool closed_ = false;
};

// Views into the headers: valid while they live.
std::vector<nghttp2_nv> name_values(const Headers& headers);

}  // namespace rpc::http2
