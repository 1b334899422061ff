// SPDX-License-Identifier: Apache-2.0
// Agrees on the connection's MTU: context.MTU ends as the lowest that anybody on the path can carry.
//
// Changes: context.MTU, lowered to the local limit on the way down, so that those below start from it, and again on the
// way back. A request that states none gets the limit. Keeps nothing. Failure: nothing to undo. Repeated request:
// lowers again, with the limit of that moment; what was agreed before is never raised.
#pragma once

#include <functional>

#include "mesh/core/element.h"

namespace mesh {

// What NSM's forwarders write where nobody has stated an MTU.
inline constexpr std::uint32_t kDefaultMtu = 9000;

// The lower of two MTUs, where 0 states none.
constexpr std::uint32_t lower_mtu(std::uint32_t a, std::uint32_t b) {
  if (a == 0 || b == 0) return a + b;
  return a < b ? a : b;
}

class Mtu final : public Element {
 public:
  // What this process can carry for the connection, whose mechanism says over what; 0 when it knows no limit.
  using Limit = std::function<std::uint32_t(const Connection&)>;

  explicit Mtu(Limit limit = [](const Connection&) { return kDefaultMtu; }) : limit_(std::move(limit)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  void lower(Connection& connection) const;

  const Limit limit_;
};

}  // namespace mesh
