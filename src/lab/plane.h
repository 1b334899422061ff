// SPDX-License-Identifier: Apache-2.0
// Which way packets took, judged from counters before and after a number of pings: a case whose pings were answered
// over another way than the one it is about has failed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lab/observe.h"

namespace lab {

struct PlaneSnapshot {
  std::optional<LinkView> client;
  std::optional<LinkView> endpoint;
  std::map<std::string, UnderlayCount> underlay;  // by port, which is named as its node
};

struct PlaneQuestion {
  std::uint64_t pings = 0;  // sent, both ways together
  bool local = false;       // a veth pair within a node; otherwise VXLAN between nodes
  std::string client_node;
  std::string endpoint_node;
};

struct PlaneVerdict {
  std::string plane;  // "kernel", or "none" if the packets did not take the way they should
  std::string wire;   // "veth", "vxlan" or empty
  std::string detail;

  bool good() const { return !wire.empty(); }
};

PlaneVerdict judge_plane(const PlaneQuestion& question, const PlaneSnapshot& before, const PlaneSnapshot& after);

}  // namespace lab
