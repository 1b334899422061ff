// SPDX-License-Identifier: Apache-2.0
// A policy server that has the last word, asked when all else agrees. Real life: OpaClient.
#pragma once

#include <string>

#include "base/result.h"
#include "base/task.h"

namespace mesh {

class Opa {
 public:
  virtual ~Opa() = default;
  // What the server decided about this input (a JSON object). Errors: it could not be asked, or did not say yes or no.
  virtual base::Task<base::Result<bool>> decide(std::string input) = 0;
};

}  // namespace mesh
