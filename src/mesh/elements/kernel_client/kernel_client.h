// SPDX-License-Identifier: Apache-2.0
// Asks for a kernel interface in this process's, or its workload's, network namespace.
//
// Changes: every KERNEL mechanism in the request: inodeURL is the namespace's, a missing name is generated. A request
// that prefers nothing prefers this. Keeps: the namespace's descriptor among the held ones, so that connect sends it
// along. After: begin. Failure: nothing to undo. Repeated request, also after a reselect: the same generated name,
// because it follows from the connection's id.
#pragma once

#include "base/random.h"
#include "mesh/core/element.h"
#include "rpc/descriptor.h"

namespace mesh {

class KernelClient final : public Element {
 public:
  using Needs = Types<Serialised>;

  // random gives this process's names their common seed.
  KernelClient(rpc::Descriptor network_namespace, base::Random& random)
      : namespace_(std::move(network_namespace)), seed_(random.next()) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  void complete(const Connection& connection, Mechanism& mechanism) const;

  const rpc::Descriptor namespace_;
  const std::uint64_t seed_;
};

}  // namespace mesh
