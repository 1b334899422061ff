// SPDX-License-Identifier: Apache-2.0
// The SPIFFE Workload API, all five methods: tells local callers who they are. Streams renew SVIDs when half of their
// life is over and follow changes of trust and rules. Whom no rule knows is told nothing: permission_denied.
// Belongs to one event loop's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "identity/server/attest.h"
#include "identity/server/authority.h"
#include "identity/server/rules.h"
#include "rpc/http2/limits.h"
#include "rpc/transport.h"

namespace identity {

class WorkloadApiServer {
 public:
  // All outlive it, and it the listeners.
  WorkloadApiServer(base::Scheduler& scheduler, Authority& authority, const AttestingSecurity& callers, Rules rules);

  rpc::Services services();
  const Rules& rules() const { return rules_; }
  // Every stream looks again who its caller is.
  void set_rules(Rules rules);

  // Anybody on the machine may connect, and needs little.
  static rpc::http2::Limits limits();

 private:
  using Ids = std::vector<SpiffeId>;

  // Who calls, if the call is in order: invalid_argument, permission_denied.
  base::Result<Ids> admit(const rpc::ServerCall& call) const;

  base::Task<base::Result<void>> fetch_x509_svid(rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream);
  base::Task<base::Result<void>> fetch_x509_bundles(rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream);
  base::Task<base::Result<rpc::Bytes>> fetch_jwt_svid(rpc::ServerCall& call, rpc::Bytes body);
  base::Task<base::Result<void>> fetch_jwt_bundles(rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream);
  base::Task<base::Result<rpc::Bytes>> validate_jwt_svid(rpc::ServerCall& call, rpc::Bytes body);

  struct Issued {
    rpc::Bytes response;
    base::WallTime renew;
  };
  base::Task<base::Result<Issued>> issue(Ids ids);
  // The same answer as long as it stays true, each change of it once.
  base::Task<base::Result<void>> follow(rpc::ServerCall& call, rpc::ServerStream& stream,
                                        std::function<rpc::Bytes()> answer);

  base::Scheduler& scheduler_;
  Authority& authority_;
  const AttestingSecurity& callers_;
  Rules rules_;
};

}  // namespace identity
