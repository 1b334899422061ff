// SPDX-License-Identifier: Apache-2.0
// A node's side: an Authority whose CA is on another machine. Joins once with a token, keeps its node SVID and what it
// trusts on disk, renews the SVID when half of its life is over and follows changes of trust. Keys of callers are made
// here and never leave. While the CA is away, callers keep what they have. Belongs to one event loop's thread.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "identity/server/authority.h"
#include "identity/source.h"
#include "identity/tls.h"
#include "rpc/http2/transport.h"

namespace patchbay::identity {
class Trust;
}

namespace identity {

struct NodeOptions {
  std::string trust_domain;
  std::string server;      // tcp://host:port
  std::string directory;   // private
  std::string join_token;  // needed the first time only
};

class NodeAuthority final : public Authority {
 public:
  NodeAuthority(base::EventLoop& loop, NodeOptions options);

  // Finds the node's SVID on disk, or joins. Returns when it is a node; the CA need not be there if it was one before.
  base::Task<base::Result<void>> start(base::TimePoint deadline, base::StopToken stop);
  base::Task<void> finish();

  const std::string& trust_domain() const override { return options_.trust_domain; }
  std::shared_ptr<const Trust> trust() const override { return trust_; }
  base::Task<base::Result<X509Svid>> issue(SpiffeId id) override;
  base::Task<base::Result<std::string>> sign_jwt(SpiffeId id, std::vector<std::string> audience) override;

  const Source& source() const { return source_; }
  // Gets a new node SVID now.
  base::Task<base::Result<void>> renew();

 private:
  base::Result<bool> load();
  base::Task<base::Result<void>> join(base::TimePoint deadline, base::StopToken stop);
  base::Result<void> take_trust(const patchbay::identity::Trust& message);
  // Becomes this node, and writes it down.
  base::Result<void> become(std::string_view certificates, std::string_view key);
  base::Result<void> save() const;
  base::Result<std::shared_ptr<const Identity>> identity_of(X509Svid svid) const;
  void connect();

  base::Task<void> follow_trust();
  base::Result<void> heard(const std::string& message);
  base::Task<void> keep_renewed();

  base::EventLoop& loop_;
  const NodeOptions options_;
  FixedSource source_;
  Tls tls_;
  rpc::http2::NoCredentials no_tokens_;
  std::unique_ptr<rpc::http2::Transport> transport_;
  std::shared_ptr<rpc::Channel> channel_;
  std::shared_ptr<const Trust> trust_;
  base::TaskScope background_;
};

}  // namespace identity
