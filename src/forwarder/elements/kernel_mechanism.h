// SPDX-License-Identifier: Apache-2.0
// The KERNEL mechanism towards the previous hop: an interface in the namespace that the client brought. Checks its
// parameters and chooses a name where none is given; crossing makes the interface.
// After: mechanisms, descriptors. Keeps the chosen name. Repeated request: the same name.
#pragma once

#include "base/random.h"
#include "mesh/core/element.h"

namespace forwarder {

class KernelMechanism final : public mesh::Element {
 public:
  explicit KernelMechanism(base::Random& random) : random_(random) {}

  base::Task<base::Result<mesh::Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override;

 private:
  base::Random& random_;
};

}  // namespace forwarder
