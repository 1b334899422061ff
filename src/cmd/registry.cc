// SPDX-License-Identifier: Apache-2.0
// patchbay registry
#include "apps/registry_role.h"
#include "cmd/role.h"

namespace cmd {

void add_registry(CLI::App& app, Action& action) {
  add_role(app, action, "registry", "keep the mesh's network services and endpoints",
           environment_table(&apps::registry_options), [] { return apps::run_registry(base::process_environment()); });
}

}  // namespace cmd
