// SPDX-License-Identifier: Apache-2.0
// Requests the connection again before the first token on its path expires. In clients only. After: begin. Keeps: the
// timer. Failed refresh: tries again every 200 ms until it succeeds or the connection is closed. Repeated request: the
// timer starts anew.
#pragma once

#include "base/async.h"
#include "mesh/core/element.h"

namespace mesh {

class Refresh final : public Element {
 public:
  using Needs = Types<Serialised>;

  explicit Refresh(base::Scheduler& scheduler) : scheduler_(scheduler), tasks_(scheduler) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

  base::Task<void> finish() { co_await tasks_.finish(); }

 private:
  struct Due;
  void arm(std::shared_ptr<Due> due, base::Duration delay);
  base::Task<void> refresh(std::shared_ptr<Due> due);

  base::Scheduler& scheduler_;
  base::TaskScope tasks_;
};

// How long after now a connection wants to be refreshed.
base::Duration refresh_delay(const Path& path, base::WallTime now);

}  // namespace mesh
