// SPDX-License-Identifier: Apache-2.0
// patchbay cleanup: removes what processes that died left on this machine.
#include <fmt/format.h>

#include "cmd/commands.h"
#include "lab/state.h"

namespace cmd {

void add_cleanup(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("cleanup", "remove what dead labs left on this machine");
  command->callback([&action] {
    action = [] {
      auto cleaned = lab::clean_dead_labs(lab::Places{});
      if (!cleaned) {
        fmt::print(stderr, "patchbay cleanup: {}\n", cleaned.error().message());
        return 1;
      }
      for (const auto& id : *cleaned) fmt::print("removed what the dead lab {} had left\n", id);
      if (cleaned->empty()) fmt::print("nothing to clean up\n");
      return 0;
    };
  });
}

}  // namespace cmd
