// SPDX-License-Identifier: Apache-2.0
// A network service registered without a payload carries IP.
#pragma once

#include "mesh/core/api.h"
#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

class RegistryPayload final : public RegistryElement<Services> {
 public:
  base::Task<base::Result<NetworkService>> enroll(RegistryCall& call, NetworkService service) override {
    if (service.payload().empty()) service.set_payload(std::string(kPayloadIp));
    return next().enroll(call, std::move(service));
  }
};

}  // namespace mesh
