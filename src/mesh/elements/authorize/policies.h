// SPDX-License-Identifier: Apache-2.0
// NSM's embedded policies, decided natively: what a path's tokens must be like. Pure but for the verifier's cache.
//
// | policy             | set      | holds when                                                                       |
// | tokens_valid       | common   | every token reads as a JWT                                                       |
// | tokens_expired     | common   | every token's exp is in the future (and its nbf, if it has one, is not)          |
// | tokens_chained     | common   | each token's aud is a list that names the next token's subject                   |
// | prev_token_signed  | server   | the TLS peer's key signed the segment before ours, in the peer's own name        |
// | next_token_signed  | client   | the same of the segment after ours                                               |
// | client_allowed     | registry | nobody has registered the name, or the subject of token 0 has                    |
// | service_connection | monitor  | the selector names a connection that this peer asked for                         |
//
// Stricter than NSM's Rego in two points that no peer of NSM's can tell: a subject may not be empty, and a signed
// token's subject must be the ID of the certificate that signed it; without the latter any member could sign as
// anybody.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/scheduler.h"
#include "identity/token_verifier.h"
#include "rpc/transport.h"

namespace mesh {

enum class Policy : std::uint8_t {
  tokens_valid,
  tokens_expired,
  tokens_chained,
  prev_token_signed,
  next_token_signed,
  client_allowed,
  service_connection,
};

std::string_view name_of(Policy policy);

class PolicySet {
 public:
  constexpr PolicySet() = default;
  constexpr PolicySet(std::initializer_list<Policy> policies) {
    for (const Policy policy : policies) add(policy);
  }

  constexpr void add(Policy policy) { bits_ |= 1U << static_cast<unsigned>(policy); }
  constexpr bool has(Policy policy) const { return (bits_ >> static_cast<unsigned>(policy) & 1U) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool operator==(const PolicySet&) const = default;

 private:
  std::uint32_t bits_ = 0;
};

// What connections are held to; not configurable, as in NSM.
inline constexpr PolicySet kConnectionServerPolicies{Policy::tokens_valid, Policy::tokens_expired,
                                                     Policy::tokens_chained, Policy::prev_token_signed};
inline constexpr PolicySet kConnectionClientPolicies{Policy::tokens_valid, Policy::tokens_expired,
                                                     Policy::tokens_chained, Policy::next_token_signed};

// Defaults of NSM_REGISTRY_SERVER_POLICIES and NSM_REGISTRY_CLIENT_POLICIES.
inline constexpr std::string_view kRegistryServerMasks =
    "etc/nsm/opa/common/.*.rego,etc/nsm/opa/registry/.*.rego,etc/nsm/opa/server/.*.rego";
inline constexpr std::string_view kRegistryClientMasks =
    "etc/nsm/opa/common/.*.rego,etc/nsm/opa/registry/.*.rego,etc/nsm/opa/client/.*.rego";

// Regular expressions, separated by commas, over the virtual paths etc/nsm/opa/SET/POLICY.rego. Empty: no policies.
// invalid_argument: a mask is no regular expression, chooses nothing, or is a file on disk: Rego is not interpreted
// here.
base::Result<PolicySet> parse_policies(std::string_view masks);

// A path as a check point sees it.
struct CheckedPath {
  std::vector<std::string> tokens;  // of the segments that count, first hop first
  std::vector<std::string> names;   // of these segments, for the log; registrations have none
  std::size_t index = 0;            // of the own segment
  rpc::Peer peer;                   // who is at the other end of the connection
};

// Those of the set that look at tokens. permission_denied names policy, segment and what is wrong; never a token's
// text.
base::Result<void> check_tokens(PolicySet policies, const CheckedPath& path, identity::TokenVerifier& verifier,
                                base::WallTime now);

}  // namespace mesh
