// SPDX-License-Identifier: Apache-2.0
// Ends the path at this process if no peer further down answered: what a refresh carried beyond it belongs to hops that
// are gone. After: path. Keeps nothing, undoes nothing; every request alike.
#pragma once

#include "mesh/core/element.h"

namespace mesh {

class TrimPath final : public Element {
 public:
  using Needs = Types<Identified>;

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    const std::uint32_t own = request.connection().path().index();
    auto connection = co_await call.next(std::move(request));
    if (connection && !call.context().answered_below) {
      auto* segments = connection->mutable_path()->mutable_path_segments();
      if (segments->size() > static_cast<int>(own) + 1) {
        segments->DeleteSubrange(static_cast<int>(own) + 1, segments->size() - static_cast<int>(own) - 1);
      }
    }
    co_return connection;
  }
};

}  // namespace mesh
