// SPDX-License-Identifier: Apache-2.0
// Finds what bears our marks, wherever a namespace can be reached, and removes it: after a crash, at shutdown, or when
// Patchbay leaves the machine. What bears no mark is never touched.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernel/graveyard.h"
#include "kernel/link.h"
#include "kernel/netns.h"

namespace kernel {

struct MarkedLink {
  std::shared_ptr<Netns> netns;
  Link link;
  std::optional<Mark> mark;  // nothing: made, but its maker died before labelling it
};

struct Removed {
  enum class Kind { link, rule, route };
  Kind kind;
  std::string netns;
  std::string name;  // the interface's name, or the rule or route in iproute2's words
  std::optional<Mark> mark;
};

struct CleanupResult {
  std::size_t removed = 0;
  std::vector<base::Error> failures;  // each names its namespace; the rest was cleaned nevertheless
};

// Every namespace a process is in or that is mounted (as ip netns does), this process's own included.
std::vector<std::shared_ptr<Netns>> reachable(Namespaces& namespaces);

// Links of ours in these namespaces, retired ones that wait for deletion left out.
base::Result<std::vector<MarkedLink>> list_marked(std::span<const std::shared_ptr<Netns>> namespaces);

// Deletes links that a process retired and died before deleting: for a forwarder's start. Returns when they are gone.
base::Result<void> sweep(std::span<const std::shared_ptr<Netns>> namespaces, Graveyard& graveyard);

// Removes everything of the owner's, or of all owners', from these namespaces; when it returns it is gone. Tells of
// each object; retired links are deleted without a word.
CleanupResult cleanup(std::span<const std::shared_ptr<Netns>> namespaces, Graveyard& graveyard,
                      const std::optional<std::string>& owner, const std::function<void(const Removed&)>& report);

}  // namespace kernel
