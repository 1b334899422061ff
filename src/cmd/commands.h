// SPDX-License-Identifier: Apache-2.0
// The subcommands: one function each, in a file of its own. It declares its options with CLI11 and, when the command
// was given, leaves what to run; main() runs it and exits with what it returns: 0 success, 1 failure, 2 usage.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace cmd {

using Action = std::function<int()>;

void add_registry(CLI::App& app, Action& action);
void add_manager(CLI::App& app, Action& action);
void add_forwarder(CLI::App& app, Action& action);
void add_client(CLI::App& app, Action& action);
void add_endpoint(CLI::App& app, Action& action);
void add_node(CLI::App& app, Action& action);
void add_identity(CLI::App& app, Action& action);
void add_lab(CLI::App& app, Action& action);
void add_cleanup(CLI::App& app, Action& action);
void add_version(CLI::App& app, Action& action);

}  // namespace cmd
