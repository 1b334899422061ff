// SPDX-License-Identifier: Apache-2.0
// What tunnels between nodes run over: the address a node is reached by, and the device that owns it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "kernel/netns.h"
#include "wire/address.h"

namespace kernel {

struct Underlay {
  wire::IpAddress address;
  std::string interface;
  std::uint32_t mtu = 0;
};

// The first global address of the device that the default route with the lowest metric leaves by. Without a family:
// IPv4 if there is such a route, else IPv6. This is what a forwarder uses that was given no tunnel address.
base::Result<Underlay> default_underlay(Netns& netns, std::optional<wire::Family> family = {});

// The device that owns the address; the address must be there.
base::Result<Underlay> find_underlay(Netns& netns, const wire::IpAddress& address);

}  // namespace kernel
