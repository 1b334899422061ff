// SPDX-License-Identifier: Apache-2.0
// The manager's side of excluded prefixes: no endpoint gives out what this node uses for itself.
//
// Changes: ip_context.excluded_prefixes, to which the file's are appended unless they are there. Keeps nothing, undoes
// nothing. Repeated request: with the file as it is then, so that an endpoint moves its addresses out of the way.
#pragma once

#include "mesh/core/element.h"
#include "mesh/elements/excluded_prefixes/prefix_file.h"

namespace mesh {

class NodeExcludedPrefixes final : public Element {
 public:
  explicit NodeExcludedPrefixes(PrefixFile file) : file_(std::move(file)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  PrefixFile file_;
};

}  // namespace mesh
