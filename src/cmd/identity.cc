// SPDX-License-Identifier: Apache-2.0
// patchbay identity, and patchbay identity token
#include "cmd/role.h"
#include "identity/server/role.h"

namespace cmd {

void add_identity(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("identity", "tell this machine's workloads who they are: a SPIFFE Workload API");
  command->footer(environment_table(&identity::identity_options));
  auto* token = command->add_subcommand("token", "print what lets another machine join this CA, once");
  const auto node = std::make_shared<std::string>();
  const auto ttl = std::make_shared<std::string>("10m");
  token->add_option("--node", *node, "the machine's name, part of its ID")->required();
  token->add_option("--ttl", *ttl, "how long the token may wait for its use")->capture_default_str();
  command->callback([&action, token, node, ttl] {
    if (token->parsed()) {
      action = [node, ttl] { return identity::print_join_token(base::process_environment(), *node, *ttl); };
    } else {
      action = [] { return identity::run_identity(base::process_environment()); };
    }
  });
}

}  // namespace cmd
