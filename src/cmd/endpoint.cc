// SPDX-License-Identifier: Apache-2.0
// patchbay endpoint NAME, also nse
#include "apps/endpoint_options.h"
#include "apps/endpoint_role.h"
#include "cmd/role.h"

namespace cmd {

void add_endpoint(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("endpoint", "offer a network service");
  command->alias("nse");
  command->require_subcommand(1);
  add_role(*command, action, "icmp-responder", "this network namespace is the service; its kernel answers the pings",
           environment_table(&apps::endpoint_option_table), &apps::run_icmp_responder);
}

}  // namespace cmd
