// SPDX-License-Identifier: Apache-2.0
// Path tokens that prove who issued them: JWTs signed by ES256 with the key of the SVID that the peer was shown, so
// that the peer can check them against the certificate it saw. Tokens whose claims would be the same are the same
// token.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "identity/source.h"
#include "mesh/core/token.h"

namespace mesh {

class SpiffeTokens final : public TokenSource {
 public:
  // The scheduler and the source outlive it. A lifetime of zero or less makes tokens that have expired.
  SpiffeTokens(base::Scheduler& scheduler, const identity::Source& source, base::Duration lifetime)
      : scheduler_(scheduler), source_(source), lifetime_(lifetime) {}

  // For a peer without ID the token has no audience. Before the first SVID, and if signing fails: an empty token, which
  // every policy refuses.
  Token issue(const rpc::Peer& audience) override;

 private:
  struct Issued {
    std::shared_ptr<const identity::Identity> by;
    std::int64_t expires = 0;  // "exp"
    std::string text;
  };

  base::Scheduler& scheduler_;
  const identity::Source& source_;
  const base::Duration lifetime_;
  std::map<std::string, Issued> issued_;  // by audience
};

}  // namespace mesh
