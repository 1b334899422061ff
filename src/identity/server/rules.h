// SPDX-License-Identifier: Apache-2.0
// Who may call themselves what, as the operator wrote it down (YAML; docs/identity.md):
//
//   workloads:                                        # of this machine
//     - uid: 1000                                     # all that is given must match
//       executable: /usr/local/bin/patchbay
//       id: spiffe://{trust_domain}/app/{uid}
//   nodes:                                            # that joined; on the CA's node only
//     - node: edge-1                                  # or "*": all that are not named
//       ids: [spiffe://example.org/edge]              # these and what is below them
//
// Values; nothing here knows where a file comes from or who calls.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "identity/server/attest.h"
#include "identity/spiffe_id.h"

namespace identity {

// What a rule's template is filled in with beside the caller.
struct Place {
  std::string trust_domain;
  std::string host;
};
// This machine's name, made fit for a SPIFFE ID.
std::string host_name();

struct WorkloadRule {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<std::string> executable;
  std::optional<std::string> cgroup;  // it and those below it
  std::optional<std::string> pod_uid;
  std::string id;  // template: {trust_domain} {host} {uid} {gid} {executable} {pod_uid}

  bool matches(const Caller& caller) const;
};

struct NodeRule {
  std::string node;  // "*": those that no other rule names
  std::vector<std::string> ids;
};

class Rules {
 public:
  // Only root, as spiffe://TRUST-DOMAIN/host/HOST/uid/0/EXECUTABLE; nodes may issue everything that is not reserved.
  static Rules standard(Place place);
  // invalid_argument names file, line and what is wrong.
  static base::Result<Rules> parse(const std::string& text, const std::string& name, Place place);
  static base::Result<Rules> read(const std::string& path, Place place);

  // In the order of the rules, each once. A rule that needs what is not known of the caller does not match.
  std::vector<SpiffeId> ids_of(const Caller& caller) const;
  // Whether a node may have this ID issued for its own callers.
  base::Result<void> check_node(std::string_view node, const SpiffeId& id) const;
  // Whether a node may stay: its rule names IDs, or there is none.
  bool admits(std::string_view node) const;

 private:
  explicit Rules(Place place) : place_(std::move(place)) {}
  const NodeRule* rule_of(std::string_view node) const;

  Place place_;
  std::vector<WorkloadRule> workloads_;
  std::vector<NodeRule> nodes_;
};

}  // namespace identity
