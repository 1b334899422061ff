// SPDX-License-Identifier: Apache-2.0
// The lab's commands, each returning the process's exit status: 0 success, 1 failure, 2 usage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lab/mesh.h"
#include "lab/state.h"

namespace lab {

enum class Plane : std::uint8_t { automatic, xdp, kernel };

struct Options {
  std::vector<std::string> cases;
  Plane plane = Plane::automatic;
  unsigned nodes = 2;
  bool same_node = false;
  UnderlayFamily underlay = UnderlayFamily::v4;
  std::uint32_t underlay_mtu = 1500;
  bool keep = false;
  bool json = false;
  Places places;
};

int list(const Options& options);  // the cases, and the labs on this machine
int up(const Options& options);    // the first case plugged in, and left so
int run(const Options& options);
// Runs a command inside a pod or node of a kept lab. Does not return if it could be started.
int exec(const Places& places, const std::string& lab, const std::string& pod, const std::vector<std::string>& command);
// Ends the kept lab (all: every one), and removes what dead labs left.
int down(const Places& places, const std::string& lab, bool all);

}  // namespace lab
