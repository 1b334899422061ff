// SPDX-License-Identifier: Apache-2.0
// From a URL to a connected socket, without blocking the loop: names are resolved on a worker thread.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/worker_thread.h"
#include "rpc/http2/socket_stream.h"
#include "rpc/url.h"

namespace rpc::http2 {

struct Address {
  sockaddr_storage storage = {};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// Requires at most 107 bytes, what a unix socket's address holds.
Address unix_address(const std::string& path);
// Numeric hosts only; an empty host means every address if passive, this machine otherwise. Empty if it is a name.
enum class Purpose { connect, listen };
std::vector<Address> numeric_addresses(const std::string& host, std::uint16_t port, Purpose purpose);

class Dialer {
 public:
  explicit Dialer(base::EventLoop& loop) : loop_(loop) {}

  // The socket's descriptor is needed for inode URLs only, and must stay open meanwhile. The dialer must stay, too.
  base::Task<base::Result<std::unique_ptr<SocketStream>>> dial(Url url, std::optional<Descriptor> socket,
                                                               base::TimePoint deadline);

 private:
  using Stream = base::Result<std::unique_ptr<SocketStream>>;
  base::Task<base::Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port);
  base::Task<Stream> connect(Address address, base::TimePoint deadline);

  base::EventLoop& loop_;
  std::unique_ptr<base::WorkerThread> resolver_;  // made for the first name
};

}  // namespace rpc::http2
