// SPDX-License-Identifier: Apache-2.0
// Mutual TLS with SVIDs on every connection of a transport, unix sockets too: TLS 1.2 or later, ALPN h2, names of hosts
// ignored, SPIFFE IDs verified. Both ends read the source's SVID and bundles at each handshake, so that a rotation
// touches no connection that exists. Nothing is ever resumed: every handshake verifies. Files travel under it unchanged
// (rpc/http2/byte_stream.h). Costs 1 to 2 ms of processor time a connection, both ends together.
#pragma once

#include <functional>

#include "base/scheduler.h"
#include "identity/source.h"
#include "rpc/http2/byte_stream.h"

namespace identity {

// Who may be at the other end, beyond having a valid SVID. An error is logged and ends the handshake.
using Authorize = std::function<base::Result<void>(const SpiffeId& peer)>;

// NSM's default: whoever has a valid SVID of a trust domain whose bundle is known.
base::Result<void> authorize_any(const SpiffeId& peer);
// Only these IDs, of these trust domains; an empty list restricts nothing.
Authorize authorize_only(std::vector<std::string> trust_domains, std::vector<std::string> ids);

class Tls final : public rpc::http2::Security {
 public:
  // The scheduler and the source outlive it, and the scheduler its streams.
  Tls(base::Scheduler& scheduler, const Source& source, Authorize authorize = authorize_any);

  // A client's failures are unavailable. A peer that is refused hears a TLS alert and no reason.
  base::Task<base::Result<std::unique_ptr<rpc::http2::ByteStream>>> secure(
      std::unique_ptr<rpc::http2::ByteStream> socket, rpc::http2::Side side, base::TimePoint deadline) override;
  // Changes with the source's identity.
  std::uint64_t epoch() const override;

 private:
  base::Scheduler& scheduler_;
  const Source& source_;
  const Authorize authorize_;
  const Owned<SSL_CTX, &SSL_CTX_free> context_;  // for both sides; SVIDs are put into each handshake
  mutable std::shared_ptr<const Identity> newest_;
  mutable std::uint64_t epoch_ = 0;
};

}  // namespace identity
