// SPDX-License-Identifier: Apache-2.0
// patchbay version
#include <fmt/format.h>

#include "cmd/commands.h"

namespace cmd {

void add_version(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("version", "print the version");
  command->callback([&action] {
    action = [] {
      fmt::print("patchbay {}\n", PATCHBAY_VERSION);
      return 0;
    };
  });
}

}  // namespace cmd
