// SPDX-License-Identifier: Apache-2.0
// All that decides whether a call may happen: policies about the path's tokens, an operator's rules, a policy server,
// asked in this order; every one of them can refuse and none can overrule. The elements authorize, authorize_answer,
// authorize_monitor and registry_authorize ask it; without one (a null pointer) they let everything pass.
//
// A caller that is refused reads "no sufficient privileges", as NSM's says, and nothing else; the reason is in our log.
// Belongs to one event loop's thread. docs/adr/0009-policies.md says what is covered by this and what is not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "identity/token_verifier.h"
#include "mesh/core/registry.h"
#include "mesh/elements/authorize/opa.h"
#include "mesh/elements/authorize/policies.h"
#include "mesh/elements/authorize/rules.h"

namespace mesh {

// Which policies hold where. The defaults are NSM's.
struct PolicySets {
  PolicySet server = kConnectionServerPolicies;
  PolicySet client = kConnectionClientPolicies;
  PolicySet registry_server;
  PolicySet registry_client;
  PolicySet monitor;  // none: whoever reaches the socket may watch
};

class Authorization {
 public:
  // All outlive it. Null: no rules, no policy server. Whoever owns the rules may reload them at any time.
  Authorization(base::Scheduler& scheduler, const PolicySets& sets, const RuleFile* rules = nullptr, Opa* opa = nullptr)
      : scheduler_(scheduler), verifier_(scheduler), sets_(sets), rules_(rules), opa_(opa) {}

  enum class Act { request, close };

  // A server's question: may this peer bring this call? The path's index is the server's own, its tokens are fresh.
  base::Task<base::Result<void>> check_call(const Connection& connection, const rpc::Peer& peer, Act act);

  // A client's: is this answer from the peer that gave it, and from the hops it names? The index is the client's own.
  base::Task<base::Result<void>> check_answer(const Connection& connection, const rpc::Peer& peer);

  // What is to be registered, or no longer.
  struct Registration {
    std::string noun;  // "endpoint"
    std::string name;
    std::vector<std::string> owner_path_ids;  // of the registration that the name has; empty: none
    std::vector<Asked> offers;                // what it puts on offer; empty when it is withdrawn
  };
  base::Task<base::Result<void>> check_registration(const RegistrationPath& path, const rpc::Peer& peer,
                                                    const Registration& registration);
  base::Task<base::Result<void>> check_registration_answer(const RegistrationPath& path, const rpc::Peer& peer,
                                                           const Registration& registration);

  // Whether a subscriber needs to have asked for one of the connections that it names.
  bool monitors_own_only() const { return sets_.monitor.has(Policy::service_connection); }
  // Whether rules decide, connection by connection, who may watch what.
  bool monitor_is_filtered() const { return rules_ != nullptr; }
  bool may_watch(const Connection& connection, const rpc::Peer& peer) const;

  // Whether a registered name is its owner's.
  bool names_are_owned() const { return sets_.registry_server.has(Policy::client_allowed); }

  // Logs the reason, and fails with what a caller may know.
  std::unexpected<base::Error> refuse(const std::string& what, const std::string& why) const;

 private:
  struct Question;
  base::Task<base::Result<void>> check(const Question& question);
  base::Result<void> check_locally(const Question& question);

  base::Scheduler& scheduler_;
  identity::TokenVerifier verifier_;
  const PolicySets sets_;
  const RuleFile* const rules_;
  Opa* const opa_;
};

}  // namespace mesh
