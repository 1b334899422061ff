// SPDX-License-Identifier: Apache-2.0
// Adds what a node knows of itself to the labels of each service an endpoint offers: nodeName, podName, clusterName.
//
// Changes: network_service_labels, never a label that is there already. Keeps nothing. A refresh changes nothing more.
#pragma once

#include "mesh/core/api.h"
#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

class RegistryClientInfo final : public RegistryElement<Endpoints> {
 public:
  explicit RegistryClientInfo(Labels labels) : labels_(std::move(labels)) {}

  base::Task<base::Result<NetworkServiceEndpoint>> enroll(RegistryCall& call,
                                                          NetworkServiceEndpoint endpoint) override {
    for (auto& [service, labels] : *endpoint.mutable_network_service_labels()) {
      for (const auto& [key, value] : labels_) labels.mutable_labels()->insert({key, value});
    }
    return next().enroll(call, std::move(endpoint));
  }

 private:
  const Labels labels_;
};

}  // namespace mesh
