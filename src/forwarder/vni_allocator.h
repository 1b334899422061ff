// SPDX-License-Identifier: Apache-2.0
// VXLAN network identifiers of one node. Each is used once on the node, whatever the remote: the kernel refuses a
// second device of the same VNI. Two nodes allocate for tunnels between the same pair of addresses without asking each
// other, so one takes even numbers and the other odd ones, decided by the order of the addresses.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/random.h"
#include "base/result.h"
#include "wire/address.h"

namespace forwarder {

class VniAllocator {
 public:
  explicit VniAllocator(base::Random& random) : random_(random) {}

  // The connection's VNI: the one it has, the one wanted if it is free, or (0) a new one. src and dst: the tunnel's
  // addresses from client to endpoint. Errors: already_exists, resource_exhausted.
  base::Result<std::uint32_t> allocate(const std::string& connection, std::uint32_t wanted, const wire::IpAddress& src,
                                       const wire::IpAddress& dst);
  void release(const std::string& connection);

  std::size_t size() const { return owners_.size(); }

 private:
  base::Random& random_;
  std::map<std::uint32_t, std::string> owners_;
  std::map<std::string, std::uint32_t> by_connection_;
};

}  // namespace forwarder
