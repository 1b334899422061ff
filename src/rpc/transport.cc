// SPDX-License-Identifier: Apache-2.0
#include "rpc/transport.h"

namespace rpc {

const Peer& peer_of(const std::shared_ptr<Link>& link) {
  static const Peer nobody;
  return link ? link->peer() : nobody;
}

std::optional<std::string_view> single_value(const Metadata& metadata, std::string_view key) {
  const auto [first, last] = metadata.equal_range(key);
  if (first == last || std::next(first) != last) return std::nullopt;
  return first->second;
}

}  // namespace rpc
