// SPDX-License-Identifier: Apache-2.0
// Sends every call of a client to one place: its manager. After: begin. Gives: NextHop. Keeps and undoes nothing.
#pragma once

#include "mesh/core/element.h"
#include "mesh/elements/connect/next_hop.h"

namespace mesh {

class ConnectTo final : public Element {
 public:
  using Needs = Types<Serialised>;
  using Gives = Types<NextHop>;

  explicit ConnectTo(std::string url) : url_(std::move(url)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    call.state().get<NextHop>().url = url_;
    return call.next(std::move(request));
  }

 private:
  const std::string url_;
};

}  // namespace mesh
