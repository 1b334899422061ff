// SPDX-License-Identifier: Apache-2.0
// `patchbay forwarder`: per node, finds endpoints and makes wires to them. Takes the place of NSM's forwarder-vpp.
#pragma once

#include "apps/process.h"

namespace apps {

struct ForwarderOptions {
  CommonOptions common;
  std::map<std::string, std::string> labels;
  std::string service;
  std::string connect_to;
  std::vector<std::string> listen_on;
  std::string plane;
  std::string tunnel_ip;
  std::uint16_t vxlan_port = 0;
  std::vector<std::string> mechanism_priority;
  bool allow_plaintext_ip = false;
};
std::vector<base::Option> forwarder_options(ForwarderOptions& options);

// The body of the command: reads the environment, serves until a signal, returns the exit code.
int run_forwarder();

}  // namespace apps
