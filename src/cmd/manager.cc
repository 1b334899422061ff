// SPDX-License-Identifier: Apache-2.0
// patchbay manager, also nsmgr
#include "apps/manager_role.h"
#include "cmd/role.h"

namespace cmd {

void add_manager(CLI::App& app, Action& action) {
  add_role(app, action, "manager", "per node: choose forwarders, front the registry, watch services",
           environment_table(&apps::manager_options), &apps::run_manager)
      ->alias("nsmgr");
}

}  // namespace cmd
