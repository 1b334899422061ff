// SPDX-License-Identifier: Apache-2.0
// Tells the client which name servers to ask: the endpoint's DNS configurations.
//
// Changes: context.dns_context, to which each configuration is appended unless an equal one is there. Keeps nothing,
// undoes nothing. Repeated request: adds nothing twice.
#pragma once

#include <vector>

#include "mesh/core/element.h"

namespace mesh {

class DnsConfig final : public Element {
 public:
  explicit DnsConfig(std::vector<connectioncontext::DNSConfig> configs) : configs_(std::move(configs)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  const std::vector<connectioncontext::DNSConfig> configs_;
};

}  // namespace mesh
