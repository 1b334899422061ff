// SPDX-License-Identifier: Apache-2.0
// The client's end of a connection: starts calls and collects what comes back.
#pragma once

#include <deque>
#include <map>

#include "base/async.h"
#include "rpc/http2/connection.h"
#include "rpc/http2/wire.h"

namespace rpc::http2 {

// One call, from its first header to its status. Shared by the connection, which fills it, and whoever waits for it.
struct ClientCall {
  ClientCall(base::Scheduler& scheduler, std::size_t limit, Bytes request)
      : body(std::move(request)), prefix(message_prefix(body.size())), reader(limit), ended(scheduler) {}

  StreamId id = -1;
  bool unary = true;

  Bytes body;
  const std::array<char, kPrefixSize> prefix;
  std::size_t sent = 0;  // of prefix and body

  MessageReader reader;
  std::size_t header_bytes = 0;
  int http_status = 0;
  bool headers_complete = false;
  std::string content_type;
  std::string grpc_status;
  std::string grpc_message;
  Metadata metadata;
  std::deque<Bytes> messages;
  std::size_t held = 0;  // bytes the server may not replace yet

  std::optional<base::Result<void>> status;  // how it ended
  bool unprocessed = false;                  // the server promises not to have looked at it: it may be sent again
  base::OneShot<base::Result<void>> ended;
  std::optional<base::OneShot<bool>> event;  // a stream's reader waits for a message or the end
};

class ClientConnection final : public Connection {
 public:
  ClientConnection(base::Scheduler& scheduler, std::unique_ptr<ByteStream> stream, const Limits& limits,
                   std::string authority);
  ~ClientConnection() override;

  // Takes new calls: open, the server has not said goodbye, and it takes more calls at once than are under way. At that
  // limit a call would wait for another's end, and streams that follow a connection end with the connection only.
  bool usable() const;

  void start_call(const std::shared_ptr<ClientCall>& call, std::string_view method, const Metadata& metadata,
                  const std::vector<Descriptor>& descriptors, base::TimePoint deadline);
  // Ends the call here and tells the server, unless it has ended.
  void abandon(ClientCall& call, const base::Error& why);
  // The reader has taken the messages: more may come.
  void took(ClientCall& call);

 private:
  void on_begin_headers(const nghttp2_frame& frame) override;
  bool on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) override;
  void on_frame(const nghttp2_frame& frame) override;
  void on_data(StreamId id, std::string_view bytes) override;
  void on_stream_close(StreamId id, std::uint32_t http2_error) override;
  void on_frame_sent(const nghttp2_frame&) override {}
  void on_started() override;
  void on_closed(const base::Error& why) override;
  bool idle() const override { return calls_.empty(); }

  ClientCall* find(StreamId id) const;
  base::Result<void> outcome(const ClientCall& call, std::uint32_t http2_error) const;
  void end(ClientCall& call, base::Result<void> status);
  void watch();
  void check_answer(std::uint64_t received_then);

  const std::string authority_;
  std::map<StreamId, std::shared_ptr<ClientCall>> calls_;
  bool goodbye_ = false;
  base::TimerId ping_timer_ = 0;
};

}  // namespace rpc::http2
