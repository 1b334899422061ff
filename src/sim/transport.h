// SPDX-License-Identifier: Apache-2.0
// rpc::Transport over the simulated network: what http2::Transport is to a real process.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "rpc/transport.h"
#include "sim/network.h"

namespace sim {

// One a process. credentials, if any, must outlive every channel; self is what peers see of it, asked for each
// connection.
class Transport final : public rpc::Transport {
 public:
  Transport(
      Network& network, Process& process, rpc::CallCredentials* credentials = nullptr,
      std::function<rpc::Peer()> self = [] { return rpc::Peer(); });

  base::Result<std::shared_ptr<rpc::Channel>> channel(const std::string& url,
                                                      std::optional<rpc::Descriptor> socket = std::nullopt) override;
  base::Result<std::unique_ptr<rpc::Listener>> listen(const std::string& url, const rpc::Services& services) override;

 private:
  Network& network_;
  Process& process_;
  rpc::CallCredentials* const credentials_;
  const std::function<rpc::Peer()> self_;
  std::map<std::string, std::weak_ptr<rpc::Channel>> channels_;
};

}  // namespace sim
