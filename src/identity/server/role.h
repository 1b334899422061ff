// SPDX-License-Identifier: Apache-2.0
// patchbay identity as a process: the Workload API on a unix socket, with a CA of its own or as a node of another's.
#pragma once

#include <string>
#include <vector>

#include "base/environment.h"

namespace identity {

struct IdentityOptions {
  std::string trust_domain;
  std::string socket;
  std::string directory;
  std::string rules;
  base::Duration svid_lifetime{};
  base::Duration ca_lifetime{};
  std::string listen_on;
  std::string server;
  std::string join_token;
  base::log::Level log_level = base::log::Level::info;
};
std::vector<base::Option> identity_options(IdentityOptions& options);

// Until SIGINT, SIGTERM or SIGQUIT; SIGHUP reads the rules again. Returns the exit code.
int run_identity(const base::Environment& environment);

// Prints a join token. Returns the exit code.
int print_join_token(const base::Environment& environment, const std::string& node, const std::string& ttl);

}  // namespace identity
