// SPDX-License-Identifier: Apache-2.0
#include "forwarder/vni_allocator.h"

namespace forwarder {

using base::Code;
using base::fail;

namespace {

constexpr std::uint32_t kMaxVni = 0xFFFFFF;
constexpr int kTries = 1000;  // with half of all numbers in use, a thousand misses in a row do not happen

}  // namespace

base::Result<std::uint32_t> VniAllocator::allocate(const std::string& connection, std::uint32_t wanted,
                                                   const wire::IpAddress& src, const wire::IpAddress& dst) {
  const auto own = by_connection_.find(connection);
  if (own != by_connection_.end() && (wanted == 0 || wanted == own->second)) return own->second;
  if (wanted > kMaxVni) {
    return fail(Code::invalid_argument, "VNI {} is out of range: it has 24 bits, so 1 to {}", wanted, kMaxVni);
  }
  if (wanted != 0) {
    if (const auto taken = owners_.find(wanted); taken != owners_.end()) {
      return fail(
          Code::already_exists,
          "VNI {} is in use on this node by connection {}: the kernel takes each VNI once; ask for another or for none",
          wanted, taken->second);
    }
  }
  std::uint32_t vni = wanted;
  const std::uint32_t parity = src.mapped() <= dst.mapped() ? 0 : 1;
  for (int i = 0; vni == 0 && i < kTries; ++i) {
    const auto candidate = static_cast<std::uint32_t>(base::uniform(random_, kMaxVni / 2) * 2 + parity);
    if (candidate != 0 && !owners_.contains(candidate)) vni = candidate;
  }
  if (vni == 0)
    return fail(Code::resource_exhausted, "no free VNI was found in {} tries: {} are in use", kTries, owners_.size());
  release(connection);
  owners_.emplace(vni, connection);
  by_connection_.emplace(connection, vni);
  return vni;
}

void VniAllocator::release(const std::string& connection) {
  const auto own = by_connection_.find(connection);
  if (own == by_connection_.end()) return;
  owners_.erase(own->second);
  by_connection_.erase(own);
}

}  // namespace forwarder
