// SPDX-License-Identifier: Apache-2.0
// What operators and policy servers write: identity rules, policy rules, policy masks, join tokens, decisions.
#include <cstdint>
#include <string>

#include "identity/server/join_token.h"
#include "identity/server/rules.h"
#include "mesh/elements/authorize/opa_client.h"
#include "mesh/elements/authorize/policies.h"
#include "mesh/elements/authorize/rules.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)identity::Rules::parse(text, "rules.yaml", {"a.test", "host"});
  (void)identity::parse_join_token(text);
  if (const auto rules = mesh::Rules::parse(text, "policy.yaml")) {
    (void)rules->allow(mesh::Verb::request, {"spiffe://a.test/x", "spiffe://a.test/y", "service", {{"a", "b"}}});
  }
  (void)mesh::parse_policies(text);
  (void)mesh::parse_decision(text);
  return 0;
}
