// SPDX-License-Identifier: Apache-2.0
// What all subcommands of roles share: no options of their own, everything from the environment, whose table --help
// shows.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/environment.h"
#include "cmd/commands.h"

namespace cmd {

// The table shows defaults, so the object that the options point into needs to live only while it is made.
template <typename Options>
std::string environment_table(std::vector<base::Option> (*options_of)(Options&)) {
  Options options;
  return "Environment:\n" + base::usage_table(options_of(options));
}

inline CLI::App* add_role(CLI::App& app, Action& action, const std::string& name, const std::string& summary,
                          std::string table, Action run) {
  auto* command = app.add_subcommand(name, summary);
  command->footer(std::move(table));
  command->callback([&action, run = std::move(run)] { action = run; });
  return command;
}

}  // namespace cmd
