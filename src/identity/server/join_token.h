// SPDX-License-Identifier: Apache-2.0
// What lets a machine become a node, once: a certificate that is good for nothing but joining, its key, and the CA's
// roots, so that both ends know each other from the first byte. The certificate is of a trust domain of its own
// (join.DOMAIN), whose roots nobody but the CA's join service knows: a token that leaks after its use opens no door.
//
// The CA keeps a file for each unused token in DIRECTORY/join/tokens: its name is the certificate's SHA-256, it says
// which node the token is for. The command that makes a token needs no server, and a restart forgets none.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/scheduler.h"
#include "identity/certificate.h"
#include "identity/server/ca.h"

namespace identity {

struct JoinToken {
  X509Svid svid;      // of join_domain()
  std::string roots;  // of the CA, concatenated DER
};

std::string join_domain(std::string_view trust_domain);
std::string node_id(std::string_view trust_domain, std::string_view node);
// invalid_argument unless it fits one segment of a SPIFFE ID.
base::Result<void> check_node_name(std::string_view node);

// The CA that signs join tokens; makes it, and the place for tokens, if needed.
base::Result<Ca> open_join_ca(std::string_view trust_domain, const std::string& directory, base::Duration root_lifetime,
                              base::WallTime now);

// Requires that the directory's CA was started with open_join_ca(); failed_precondition otherwise.
base::Result<std::string> make_join_token(const std::string& trust_domain, const std::string& directory,
                                          const std::string& node, base::Duration lifetime, base::WallTime now);
base::Result<JoinToken> parse_join_token(std::string_view text);

// Which node the token with this certificate (DER) is for; never again. permission_denied if it has been used.
base::Result<std::string> take_join_token(const std::string& directory, const std::string& certificate);

}  // namespace identity
