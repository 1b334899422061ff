// SPDX-License-Identifier: Apache-2.0
// One binary with a subcommand for every role and for the operator.
#include <fmt/format.h>

#include <algorithm>

#include "cmd/commands.h"

int main(int argc, char** argv) {
  constexpr int kUsage = 2;
  CLI::App app("Patchbay: a Network Service Mesh. Plugs workloads into network services, across nodes.", "patchbay");
  app.require_subcommand(1);
  cmd::Action action;
  cmd::add_registry(app, action);
  cmd::add_manager(app, action);
  cmd::add_forwarder(app, action);
  cmd::add_client(app, action);
  cmd::add_endpoint(app, action);
  cmd::add_node(app, action);
  cmd::add_identity(app, action);
  cmd::add_lab(app, action);
  cmd::add_cleanup(app, action);
  cmd::add_version(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    const std::string first = argc > 1 ? argv[1] : "";
    const auto all = app.get_subcommands([](const CLI::App*) { return true; });
    const bool known = std::ranges::any_of(all, [&](const CLI::App* command) { return command->check_name(first); });
    if (!known && !first.empty() && !first.starts_with('-')) {
      fmt::print(stderr, "patchbay: there is no subcommand {}; see `patchbay --help`\n", first);
    } else {
      fmt::print(stderr, "patchbay: {}; see `patchbay --help`\n", wrong.what());
    }
    return kUsage;
  }
  return action();
}
