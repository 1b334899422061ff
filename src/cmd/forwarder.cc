// SPDX-License-Identifier: Apache-2.0
// patchbay forwarder
#include "apps/forwarder_role.h"
#include "cmd/role.h"

namespace cmd {

void add_forwarder(CLI::App& app, Action& action) {
  add_role(app, action, "forwarder", "per node: find endpoints and make the wires to them",
           environment_table(&apps::forwarder_options), &apps::run_forwarder);
}

}  // namespace cmd
