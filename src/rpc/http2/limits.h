// SPDX-License-Identifier: Apache-2.0
// How much a peer may ask of us.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/scheduler.h"

namespace rpc::http2 {

struct Limits {
  std::size_t max_message = 4 << 20;       // bytes; gRPC's own default
  std::size_t max_header_list = 32 << 10;  // bytes, counted as RFC 9113 section 10.5.1 does
  // Calls at once on one connection, undo included. Every connection of the mesh keeps a monitor stream open at each
  // hop, all on one channel, so this bounds how many connections a node can have.
  std::uint32_t max_streams = 100'000;
  std::size_t max_incomplete = 32 << 20;  // bytes of half-received requests on one connection
  // Calls a peer may cancel: at once, and each second after that. Every connection that is closed cancels the stream
  // that followed it at each hop, so this bounds connects and closes; one that cancels faster is hung up on.
  std::uint64_t cancel_burst = 10'000;
  std::uint64_t cancel_rate = 2'000;
  base::Duration preface_timeout = std::chrono::seconds(10);  // for a peer to say that it speaks HTTP/2
  base::Duration dial_timeout = std::chrono::seconds(20);
  // A channel that nobody holds any more keeps its connection for as long: a handshake costs more than many calls.
  base::Duration linger = std::chrono::seconds(30);
  // HTTP/2 pings by the client; 0: none, TCP's own keepalive does it. gRPC's servers hang up on clients that ping more
  // often than every five minutes, so set this only where the servers are known to allow it.
  base::Duration ping_interval{0};
  base::Duration ping_timeout = std::chrono::seconds(10);
};

}  // namespace rpc::http2
