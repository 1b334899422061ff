// SPDX-License-Identifier: Apache-2.0
// Path tokens: each hop of a connection carries one, with the time it expires; that time drives refresh and expiry.
// What a token proves is the identity layer's business; here is the seam it fills.
#pragma once

#include <optional>
#include <string>

#include "base/scheduler.h"
#include "rpc/transport.h"

namespace mesh {

struct Token {
  Token(std::string t, base::WallTime e) : text(std::move(t)), expires(e) {}
  std::string text;
  base::WallTime expires;
};

class TokenSource {
 public:
  virtual ~TokenSource() = default;
  // A token of this process's for a peer; one without id: for nobody in particular.
  virtual Token issue(const rpc::Peer& audience) = 0;
};

// Tokens that prove nothing: unsigned, for meshes without identity. They carry a name and an expiry, so that everything
// built on expiry works.
class PlainTokens final : public TokenSource {
 public:
  PlainTokens(base::Scheduler& scheduler, std::string subject, base::Duration lifetime);
  Token issue(const rpc::Peer& audience) override;

 private:
  base::Scheduler& scheduler_;
  std::string subject_;
  base::Duration lifetime_;
};

// Puts a fresh token on every call a transport makes.
class TokenCredentials final : public rpc::CallCredentials {
 public:
  explicit TokenCredentials(TokenSource& tokens) : tokens_(tokens) {}
  rpc::Metadata for_call(const rpc::Link& link) override;

 private:
  TokenSource& tokens_;
};

// The token a call came with; nothing if it has none, more than one, or an unreadable time.
std::optional<Token> token_of(const rpc::Metadata& metadata);

// The "sub" claim, unverified; empty if the text is not a JWT.
std::string token_subject(const std::string& token);

// 2026-11-21T10:28:10.800323359Z, also with an offset such as +02:00 (RFC 3339).
std::string format_time(base::WallTime time);
std::optional<base::WallTime> parse_time(std::string_view text);

}  // namespace mesh
