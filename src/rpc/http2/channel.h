// SPDX-License-Identifier: Apache-2.0
// A peer and at most one connection to it: dialled for the first call, and again for the first call after it broke.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rpc/http2/client_connection.h"
#include "rpc/http2/dial.h"
#include "rpc/transport.h"
#include "rpc/url.h"

namespace rpc::http2 {

// What the channels of a transport share; lives as long as any of them.
struct ClientCore {
  ClientCore(base::EventLoop& l, const Limits& bounds, CallCredentials& tokens, Security& layer)
      : loop(l), limits(bounds), credentials(tokens), security(layer), dialer(l) {}

  base::EventLoop& loop;
  const Limits limits;
  CallCredentials& credentials;
  Security& security;
  Dialer dialer;
};

class Http2Channel final : public Channel, public std::enable_shared_from_this<Http2Channel> {
 public:
  Http2Channel(std::shared_ptr<ClientCore> core, Url url, std::optional<Descriptor> socket);
  ~Http2Channel() override;

  base::Task<base::Result<Reply>> unary(std::string method, Bytes request, CallOptions options) override;
  base::Task<base::Result<std::unique_ptr<ClientStream>>> stream(std::string method, Bytes request,
                                                                 CallOptions options) override;

 private:
  using Connected = base::Result<std::shared_ptr<ClientConnection>>;
  struct Started {
    std::shared_ptr<ClientConnection> connection;
    std::shared_ptr<ClientCall> call;
  };

  // Waits for a connection and starts the call on it.
  base::Task<base::Result<Started>> start(const std::string& method, Bytes request, const CallOptions& options,
                                          bool unary);
  base::Task<Connected> connected(base::TimePoint deadline, base::StopToken stop);
  static base::Task<void> dial(std::shared_ptr<Http2Channel> self);
  base::Error local_error(const base::Error& error, const std::string& method) const;

  const std::shared_ptr<ClientCore> core_;
  const Url url_;
  const std::optional<Descriptor> socket_;
  std::shared_ptr<ClientConnection> connection_;
  std::uint64_t epoch_ = 0;  // of the connection's security
  bool dialing_ = false;
  std::vector<base::OneShot<Connected>> waiting_;
};

}  // namespace rpc::http2
