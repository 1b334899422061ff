// SPDX-License-Identifier: Apache-2.0
// patchbay cleanup: removes every object on this machine that bears Patchbay's mark, and what dead labs left. Living
// labs keep theirs.
#include "kernel/cleanup.h"

#include <fmt/format.h>

#include "cmd/commands.h"
#include "kernel/privileges.h"
#include "lab/state.h"

namespace cmd {
namespace {

std::string_view name_of(kernel::Removed::Kind kind) {
  switch (kind) {
    case kernel::Removed::Kind::link:
      return "interface";
    case kernel::Removed::Kind::rule:
      return "rule";
    case kernel::Removed::Kind::route:
      return "route";
  }
  return "object";
}

int complain(const base::Error& error) {
  fmt::print(stderr, "patchbay cleanup: {}\n", error.message());
  return 1;
}

// owner: a forwarder's name; empty for all.
int clean_up(const std::string& owner) {
  if (auto allowed = kernel::check_privileges(); !allowed) return complain(allowed.error());
  std::size_t removed = 0;
  if (owner.empty()) {
    auto labs = lab::clean_dead_labs(lab::Places{});
    if (!labs) return complain(labs.error());
    for (const auto& id : *labs) fmt::print("removed what the dead lab {} had left\n", id);
    removed += labs->size();
  }
  kernel::Namespaces namespaces;
  kernel::Graveyard graveyard;
  auto everywhere = kernel::reachable(namespaces);
  // What a living lab works with goes with the lab.
  for (const auto& lab : lab::list_labs(lab::Places{})) {
    if (!lab.living) continue;
    std::erase_if(everywhere, [&lab](const auto& netns) { return lab.namespaces.contains(netns->key().inode); });
  }
  const auto result = kernel::cleanup(
      everywhere, graveyard, owner.empty() ? std::nullopt : std::optional(owner), [](const kernel::Removed& object) {
        fmt::print("removed {} {} in {}{}\n", name_of(object.kind), object.name, object.netns,
                   object.mark
                       ? fmt::format(", made by {} for connection {}", object.mark->owner, object.mark->connection)
                       : "");
      });
  removed += result.removed;
  for (const auto& failure : result.failures) fmt::print(stderr, "patchbay cleanup: {}\n", failure.message());
  fmt::print("{}\n", removed == 0 ? "nothing to clean up" : fmt::format("{} removed", removed));
  return result.failures.empty() ? 0 : 1;
}

}  // namespace

void add_cleanup(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("cleanup",
                                     "remove every interface, rule and route that bears Patchbay's mark, and what "
                                     "dead labs left; wires of running forwarders too, but not those of living labs");
  const auto owner = std::make_shared<std::string>();
  command->add_option("--owner", *owner, "only what the forwarder of this name made");
  command->callback([&action, owner] { action = [owner] { return clean_up(*owner); }; });
}

}  // namespace cmd
