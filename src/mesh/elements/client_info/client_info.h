// SPDX-License-Identifier: Apache-2.0
// Where the caller runs, as labels: nodeName, podName, clusterName. Selectors and templates of network services use
// them.
//
// Changes: connection.labels; a label that is there already is never overwritten. Keeps nothing, undoes nothing.
// Repeated request: the same labels.
#pragma once

#include <string>

#include "base/environment.h"
#include "mesh/core/element.h"

namespace mesh {

struct ClientInfo {
  std::string node_name;
  std::string pod_name;
  std::string cluster_name;
};

inline constexpr const char* kNodeNameLabel = "nodeName";
inline constexpr const char* kPodNameLabel = "podName";
inline constexpr const char* kClusterNameLabel = "clusterName";

// From NODE_NAME, POD_NAME and CLUSTER_NAME; what is unset stays empty.
ClientInfo read_client_info(const base::Environment& environment);

// Adds what is known and not there yet. For a connection's labels and for those an endpoint registers with.
void add_labels(const ClientInfo& info, google::protobuf::Map<std::string, std::string>& labels);

class ClientInfoLabels final : public Element {
 public:
  explicit ClientInfoLabels(ClientInfo info) : info_(std::move(info)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;

 private:
  const ClientInfo info_;
};

}  // namespace mesh
