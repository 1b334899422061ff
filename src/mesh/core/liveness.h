// SPDX-License-Identifier: Apache-2.0
// Whether packets really cross a connection from end to end. Heal asks this; real life: apps::KernelLiveness (ICMP
// echoes from the workload's namespace); the simulator: what its data plane knows.
#pragma once

#include "base/async.h"
#include "mesh/core/api.h"

namespace mesh {

class Liveness {
 public:
  virtual ~Liveness() = default;

  // False: the check ran and something did not answer within the timeout. What cannot be checked counts as alive.
  // Errors: cancelled when stopped; any other means the check itself could not be made, which says nothing about the
  // connection. The connection must outlive the task.
  virtual base::Task<base::Result<bool>> alive(const Connection& connection, base::Duration timeout,
                                               base::StopToken stop) = 0;
};

}  // namespace mesh
