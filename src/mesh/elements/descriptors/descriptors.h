// SPDX-License-Identifier: Apache-2.0
// Takes in the files a request names by inode URL, and passes the answer's file back. A request may name only what came
// over its own transport connection or what the same connection brought before: else any workload could be plugged into
// another's namespace. What a KERNEL mechanism names must be a network namespace, whatever its sender calls it.
// After: begin. Keeps: HeldDescriptors. Repeated request: may name held files without sending
// them.
#pragma once

#include "mesh/core/element.h"

namespace mesh {

class Descriptors final : public Element {
 public:
  using Needs = Types<Serialised>;

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
};

}  // namespace mesh
