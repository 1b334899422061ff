// SPDX-License-Identifier: Apache-2.0
// Keeps the path's tokens fresh: the previous segment takes the token the call came with, the own segment one for the
// caller (the next hop replaces it by the one it received). After: path. Keeps nothing. Repeated request: fresh tokens.
#pragma once

#include "mesh/core/element.h"
#include "mesh/core/token.h"

namespace mesh {

struct FreshTokens {};  // the path's segments up to the own one carry the tokens of this call

class PathToken final : public Element {
 public:
  using Needs = Types<Identified>;
  using Gives = Types<FreshTokens>;

  explicit PathToken(TokenSource& tokens) : tokens_(tokens) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  void refresh(const CallContext& context, Path& path);

  TokenSource& tokens_;
};

}  // namespace mesh
