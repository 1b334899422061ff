// SPDX-License-Identifier: Apache-2.0
// `patchbay manager`: per node, chooses forwarders, fronts the registry, watches services. NSM's nsmgr.
#pragma once

#include "apps/process.h"

namespace apps {

struct ManagerOptions {
  CommonOptions common;
  std::vector<std::string> listen_on;
  std::string registry_url;
  std::string forwarder_service;
};
std::vector<base::Option> manager_options(ManagerOptions& options);

// The body of the command: reads the environment, serves until a signal, returns the exit code.
int run_manager();

}  // namespace apps
