// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_path/registry_path.h"

namespace mesh {

using base::Code;
using base::fail;

base::Result<void> extend_path(RegistryCall& call, const std::string& own_token) {
  // Of several values the last counts, as it does for NSM's peers.
  const auto [first, last] = call.metadata.equal_range("path");
  if (first != last) {
    auto parsed = parse_path(std::prev(last)->second);
    if (!parsed) return std::unexpected(parsed.error());
    call.path = std::move(*parsed);
  }
  auto& [index, tokens] = call.path;
  const auto peer = token_of(call.metadata);
  if (tokens.empty()) {
    index = 1;
    tokens = {peer ? peer->text : std::string(), own_token};
    return {};
  }
  if (index >= tokens.size()) {
    return fail(Code::invalid_argument,
                "metadata path has Index {} and {} segments: the index must name the sender's segment", index,
                tokens.size());
  }
  if (peer) tokens[index] = peer->text;
  ++index;
  if (index == tokens.size()) {
    tokens.push_back(own_token);
  } else {
    tokens[index] = own_token;
  }
  return {};
}

}  // namespace mesh
