// SPDX-License-Identifier: Apache-2.0
// Closes a connection whose client stopped refreshing: when the previous segment's token expires, less the time a call
// needs. After: begin, path_token. Keeps: the timer. Failed repeated request: the old expiry stands. Repeated request:
// the timer starts anew.
#pragma once

#include "mesh/core/element.h"

namespace mesh {

class Timeout final : public Element {
 public:
  using Needs = Types<Serialised>;

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;
};

}  // namespace mesh
