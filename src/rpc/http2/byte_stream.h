// SPDX-License-Identifier: Apache-2.0
// The bytes under an HTTP/2 connection. A socket is one; a TLS layer wraps one and is one; tests keep one in memory.
// Descriptors pass through every layer to the socket, which is the only one that knows how they travel.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "base/scheduler.h"
#include "base/stop.h"
#include "base/task.h"
#include "rpc/transport.h"

namespace rpc::http2 {

// Non-blocking; belongs to one event loop's thread. The two waits call back once each, later and never inside the call
// that asked; with false when close() ended them. A callback may run after the stream is gone: it must hold what it
// uses.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // How many bytes came: 0 at the end of the stream, nothing if there are none now.
  virtual base::Result<std::optional<std::size_t>> read(std::span<char> into) = 0;
  // How many bytes were taken; 0 if there is no room now. Requires bytes.
  virtual base::Result<std::size_t> write(std::span<const char> bytes) = 0;
  virtual void when_readable(std::move_only_function<void(bool)> callback) = 0;
  virtual void when_writable(std::move_only_function<void(bool)> callback) = 0;
  virtual void close() = 0;

  // Queues a file to travel with the next bytes written; does nothing where files cannot travel.
  virtual void attach(Descriptor descriptor) = 0;
  // Whom to tell of files that came; called inside read().
  virtual void on_descriptor(std::function<void(Descriptor)> callback) = 0;

  virtual Peer peer() const { return {}; }
  // The socket at the bottom, to look at its peer; -1: there is none.
  virtual int socket() const { return -1; }
  // What :scheme says.
  virtual bool encrypted() const { return false; }
};

enum class Side { client, server };

// What stands between a socket and HTTP/2 on every connection of a transport.
class Security {
 public:
  virtual ~Security() = default;
  // Returns when the connection may be used. On failure the socket is closed.
  virtual base::Task<base::Result<std::unique_ptr<ByteStream>>> secure(std::unique_ptr<ByteStream> socket, Side side,
                                                                       base::TimePoint deadline) = 0;
  // Changes when connections secured before should be replaced by new ones: calls under way end on them, new calls
  // do not begin there.
  virtual std::uint64_t epoch() const { return 0; }
};

class Plaintext final : public Security {
 public:
  base::Task<base::Result<std::unique_ptr<ByteStream>>> secure(std::unique_ptr<ByteStream> socket, Side,
                                                               base::TimePoint) override {
    co_return std::move(socket);
  }
};

}  // namespace rpc::http2
