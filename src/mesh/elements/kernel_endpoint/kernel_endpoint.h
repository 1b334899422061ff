// SPDX-License-Identifier: Apache-2.0
// Offers a kernel interface in this endpoint's network namespace; one of the elements inside Mechanisms.
//
// Changes: a KERNEL mechanism's inodeURL, to the namespace's, and its name: a missing one is generated, a long one cut.
// Keeps: the connection's interface name. After: begin. The answer carries the namespace's descriptor. Failure: nothing
// to undo. Repeated request: the same name; the namespace is named and passed again, for an endpoint may have
// restarted.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/random.h"
#include "mesh/core/element.h"
#include "rpc/descriptor.h"

namespace mesh {

class KernelEndpoint final : public Element {
 public:
  using Needs = Types<Serialised>;

  // random must outlive the element.
  KernelEndpoint(rpc::Descriptor network_namespace, base::Random& random)
      : namespace_(std::move(network_namespace)), random_(random) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  using Names = std::multiset<std::string>;
  class NameInUse;

  const rpc::Descriptor namespace_;
  base::Random& random_;
  const std::shared_ptr<Names> names_ = std::make_shared<Names>();
};

}  // namespace mesh
