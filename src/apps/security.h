// SPDX-License-Identifier: Apache-2.0
// Who a role's process is to its peers, and what it lets them do: an X.509-SVID from a SPIFFE Workload API, mutual TLS,
// signed path tokens and policies; or, if it is told so, none of these.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/environment.h"
#include "base/event_loop.h"
#include "identity/tls.h"
#include "identity/workload_api_client.h"
#include "mesh/core/token.h"
#include "mesh/elements/authorize/authorization.h"
#include "rpc/http2/transport.h"

namespace apps {

struct SecurityOptions {
  std::string socket;  // of the Workload API; empty: the default one
  bool insecure = false;
  base::TextList trust_domains;
  base::TextList ids;
  mesh::PolicySet registry_server;
  mesh::PolicySet registry_client;
  mesh::PolicySet monitor;
  std::string policy_file;
  std::string opa_url;
};

// The variables that every role has.
std::vector<base::Option> security_options(SecurityOptions& options);

class ProcessSecurity {
 public:
  // name and lifetime: of path tokens. The loop outlives it.
  ProcessSecurity(base::EventLoop& loop, SecurityOptions options, const std::string& name,
                  base::Duration token_lifetime);

  mesh::TokenSource& tokens() { return *tokens_; }
  rpc::http2::Security& transport_security() { return *transport_security_; }

  // Returns when the process has an identity and its policies. Waits as long as it takes for a Workload API that was
  // named; fails at once if none was and nothing is at the default place.
  base::Task<base::Result<void>> start(base::StopToken stop);
  base::Task<void> finish();

  // What chains ask; null in an insecure process. After start().
  mesh::Authorization* authorization() { return authorization_.get(); }

 private:
  base::Result<void> make_authorization();
  base::Task<void> reload_policy_file();

  base::EventLoop& loop_;
  const SecurityOptions options_;
  rpc::http2::Transport workload_api_transport_;
  identity::WorkloadApiClient source_;
  std::unique_ptr<mesh::TokenSource> tokens_;
  std::unique_ptr<rpc::http2::Security> transport_security_;
  std::optional<mesh::RuleFile> rules_;
  std::unique_ptr<mesh::Opa> opa_;
  std::unique_ptr<mesh::Authorization> authorization_;
  base::TaskScope background_;
};

}  // namespace apps
