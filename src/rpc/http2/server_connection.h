// SPDX-License-Identifier: Apache-2.0
// The server's end of a connection: finds the handler of each call that comes in, runs it, sends what it says.
//
// A handler always runs to its end, also when the client, its connection or the listener is gone: it is asked to stop.
#pragma once

#include <map>
#include <set>

#include "base/async.h"
#include "rpc/http2/connection.h"

namespace rpc::http2 {

class ServerConnection;

// What a listener's connections share. Outlives the listener while handlers run.
struct ServerCore {
  ServerCore(base::Scheduler& s, const Services& methods, const Limits& bounds, Security& layer)
      : scheduler(s), services(methods), limits(bounds), security(layer), handlers(s) {}

  base::Scheduler& scheduler;
  const Services& services;  // not to be touched once closing
  const Limits limits;
  Security& security;
  base::TaskScope handlers;
  bool closing = false;
  int handshakes = 0;                                       // under way
  std::set<std::shared_ptr<ServerConnection>> connections;  // by address; order does not matter to anybody
  std::optional<base::OneShot<base::Result<bool>>> all_gone;
};

class ServerConnection final : public Connection {
 public:
  // epoch: of the security at the time it began to secure the stream.
  ServerConnection(std::shared_ptr<ServerCore> core, std::unique_ptr<ByteStream> stream, std::uint64_t epoch);
  ~ServerConnection() override;

  // Asks all handlers to stop and answers calls whose handler has not begun.
  void stop_calls();

 private:
  class Call;

  void on_begin_headers(const nghttp2_frame& frame) override;
  bool on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) override;
  void on_frame(const nghttp2_frame& frame) override;
  void on_data(StreamId id, std::string_view bytes) override;
  void on_stream_close(StreamId id, std::uint32_t http2_error) override;
  void on_frame_sent(const nghttp2_frame& frame) override;
  void on_started() override;
  void on_closed(const base::Error& why) override;
  bool idle() const override { return calls_.empty() && running_ == 0; }

  Call* find(StreamId id) const;
  void headers_complete(Call& call);
  void request_complete(Call& call);
  static base::Task<void> run(std::shared_ptr<ServerConnection> self, std::shared_ptr<Call> call);

  const std::shared_ptr<ServerCore> core_;
  const std::uint64_t epoch_;
  bool dismissed_ = false;  // the client was told to go elsewhere with new calls
  std::map<StreamId, std::shared_ptr<Call>> calls_;
  std::size_t running_ = 0;     // handlers, also of calls that are gone
  std::size_t incomplete_ = 0;  // bytes of requests that have not come whole
  base::TimerId preface_timer_ = 0;
};

}  // namespace rpc::http2
