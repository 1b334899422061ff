// SPDX-License-Identifier: Apache-2.0
// Where a connection's calls go on to. Kept per connection; set by whatever chooses the next hop, read by connect and
// monitor.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "rpc/transport.h"

namespace mesh {

struct NextHop {
  NextHop() = default;
  NextHop(std::string u, std::optional<rpc::Descriptor> s) : url(std::move(u)), socket(std::move(s)) {}

  std::string url;
  std::optional<rpc::Descriptor> socket;  // the listening socket, for inode URLs

  // On this machine: mechanisms to it are LOCAL ones.
  bool local() const { return url.starts_with("unix:") || url.starts_with("inode:"); }
};

// Who last answered. Set by connect, read by what judges the answer.
struct AnsweredBy {
  rpc::Peer peer;
};

}  // namespace mesh
