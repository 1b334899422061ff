// SPDX-License-Identifier: Apache-2.0
// The CA's side of nodes on other machines (api/identity.proto): lets holders of join tokens become nodes, and gives
// nodes SVIDs for their callers as far as the rules go. Served over mutual TLS only: whoever has neither a join token
// nor a node SVID does not get past the handshake. Belongs to one event loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "identity/server/ca.h"
#include "identity/server/rules.h"
#include "identity/source.h"
#include "identity/tls.h"
#include "rpc/transport.h"

namespace identity {

// A node that is switched off for longer has to join anew.
inline constexpr base::Duration kNodeSvidLifetime = std::chrono::hours(72);

std::string ca_id(std::string_view trust_domain);

class NodeService final : public Source {
 public:
  // All outlive it. directory: the CA's, where the tokens lie. rules: those of now.
  NodeService(base::Scheduler& scheduler, LocalAuthority& authority, LocalAuthority& join_authority,
              std::string directory, std::function<const Rules&()> rules);

  rpc::Services services();
  // What the listener's Tls needs: our own SVID and whom we trust; and who may connect.
  std::shared_ptr<const Identity> current() const override;
  Authorize authorize() const;

 private:
  // The node that calls: permission_denied, unauthenticated.
  base::Result<std::string> node_of(const rpc::ServerCall& call) const;
  base::Result<std::string> issue_to(const SpiffeId& id, std::string_view csr, base::Duration lifetime) const;

  base::Task<base::Result<rpc::Bytes>> join(rpc::ServerCall& call, rpc::Bytes body);
  base::Task<base::Result<rpc::Bytes>> renew(rpc::ServerCall& call, rpc::Bytes body);
  base::Task<base::Result<rpc::Bytes>> issue(rpc::ServerCall& call, rpc::Bytes body);
  base::Task<base::Result<rpc::Bytes>> sign_jwt(rpc::ServerCall& call, rpc::Bytes body);
  base::Task<base::Result<void>> watch_trust(rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream);

  base::Scheduler& scheduler_;
  LocalAuthority& authority_;
  LocalAuthority& join_authority_;
  const std::string directory_;
  const std::function<const Rules&()> rules_;
  const std::string node_prefix_;

  struct Made {
    std::shared_ptr<const Identity> identity;
    std::shared_ptr<const Trust> trust;
    std::shared_ptr<const Trust> join_trust;
    base::WallTime renew;
  };
  mutable Made made_;  // what current() said last
};

}  // namespace identity
