// SPDX-License-Identifier: Apache-2.0
// gRPC's wire protocol over unix sockets and TCP: real life's rpc::Transport. Why our own: docs/adr/0002.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/async.h"
#include "base/event_loop.h"
#include "rpc/http2/byte_stream.h"
#include "rpc/http2/limits.h"
#include "rpc/transport.h"

namespace rpc::http2 {

struct ClientCore;
class Http2Channel;

// Calls without tokens.
class NoCredentials final : public CallCredentials {
 public:
  Metadata for_call(const Link&) override { return {}; }
};

// Everything runs on the loop's thread. The loop, credentials and security outlive all channels and listeners.
class Transport final : public rpc::Transport {
 public:
  explicit Transport(base::EventLoop& loop, const Limits& limits = {});
  Transport(base::EventLoop& loop, CallCredentials& credentials, Security& security, const Limits& limits = {});
  ~Transport() override;

  base::Result<std::shared_ptr<Channel>> channel(const std::string& url,
                                                 std::optional<Descriptor> socket = std::nullopt) override;
  base::Result<std::unique_ptr<Listener>> listen(const std::string& url, const Services& services) override;

 private:
  base::EventLoop& loop_;
  const Limits limits_;
  Security& security_;
  const std::shared_ptr<ClientCore> client_core_;
  struct Lingering {
    std::shared_ptr<Http2Channel> channel;
    base::TimePoint until;
  };
  void sweep();

  std::map<std::string, std::weak_ptr<Http2Channel>> channels_;
  std::map<std::string, Lingering> lingering_;  // those asked for not long ago
  base::Timer sweep_;
};

}  // namespace rpc::http2
