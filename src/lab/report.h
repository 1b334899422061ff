// SPDX-License-Identifier: Apache-2.0
// What a run found, and how it is told: as text for people, as JSON for programs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lab/observe.h"

namespace lab {

struct Check {
  std::string name;
  bool passed = false;
  std::string detail;
};

struct PingRow {
  std::string from;
  std::string to;
  std::string address;
  std::uint32_t packet_bytes = 0;
  PingResult result;
};

// One side of the wire as the kernel shows it.
struct Side {
  std::string pod;
  std::string node;
  std::string node_address;  // on the underlay
  LinkView link;
};

struct CaseReport {
  std::string name;
  std::string plane = "none";  // observed: kernel, or none when nothing was
  std::string wire;            // what the packets took: "vxlan" or "veth"
  bool local = false;
  std::vector<Check> checks;
  std::vector<std::string> path;  // names of the path's segments
  std::optional<double> connect_ms;
  std::optional<Side> client;
  std::optional<Side> endpoint;
  std::vector<PingRow> pings;
  std::optional<double> throughput_mbps;
  std::vector<std::string> warnings;
  std::string logs;  // of the processes of a case that failed

  bool passed() const;
  // Returns whether it passed, so that a run may end early.
  bool check(std::string what, bool good, std::string detail);
};

struct RunReport {
  std::string lab;
  std::string underlay;  // "10.77.0.0/24, MTU 1500"
  std::vector<CaseReport> cases{};
  std::vector<Check> checks{};  // of the run as a whole: nothing left behind

  bool passed() const;
};

std::string to_text(const RunReport& report);
std::string to_json(const RunReport& report);

}  // namespace lab
