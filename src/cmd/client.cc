// SPDX-License-Identifier: Apache-2.0
// patchbay client [--once], also nsc
#include <memory>

#include "apps/client_options.h"
#include "apps/client_role.h"
#include "cmd/role.h"

namespace cmd {

void add_client(CLI::App& app, Action& action) {
  const auto mode = std::make_shared<apps::Mode>(apps::Mode::stay);
  auto* command =
      add_role(app, action, "client", "connect this network namespace to its services, and keep it connected",
               environment_table(&apps::client_option_table), [mode] { return apps::run_client(*mode); });
  command->alias("nsc");
  command->add_flag_callback(
      "--once", [mode] { *mode = apps::Mode::once; },
      "exit once everything is connected, for an init container; a client of the same name takes over");
}

}  // namespace cmd
