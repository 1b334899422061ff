// SPDX-License-Identifier: Apache-2.0
// A connected socket as a byte stream. Over unix sockets files travel as SCM_RIGHTS, the way NSM's peers do it:
//
//   write():  byte+fd | byte+fd | ... | the rest of the bytes      one sendmsg a file, never a file without a byte
//   read():   every read has room for 64 files; fstat gives each its (device, inode)
//
// A file is sent with a byte of whatever is written next, so it arrives before or with what is written after attach().
#pragma once

#include <deque>

#include "base/event_loop.h"
#include "rpc/http2/byte_stream.h"

namespace rpc::http2 {

// What NSM's receivers make room for in one read.
inline constexpr std::size_t kDescriptorsPerRead = 64;

class SocketStream final : public ByteStream {
 public:
  SocketStream(base::EventLoop& loop, base::UniqueFd socket);

  int socket() const override { return watcher_.fd(); }

  base::Result<std::optional<std::size_t>> read(std::span<char> into) override;
  base::Result<std::size_t> write(std::span<const char> bytes) override;
  void when_readable(std::move_only_function<void(bool)> callback) override;
  void when_writable(std::move_only_function<void(bool)> callback) override;
  void close() override;
  void attach(Descriptor descriptor) override;
  void on_descriptor(std::function<void(Descriptor)> callback) override { on_descriptor_ = std::move(callback); }

 private:
  struct Sent {
    std::size_t bytes = 0;
    bool full = false;
  };
  base::Result<Sent> send_attached(std::span<const char> bytes);

  base::FdWatcher watcher_;
  bool unix_socket_ = false;
  bool closed_ = false;
  std::deque<Descriptor> attached_;
  std::function<void(Descriptor)> on_descriptor_ = [](const Descriptor&) {};
};

}  // namespace rpc::http2
