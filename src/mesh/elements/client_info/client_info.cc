// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/client_info/client_info.h"

namespace mesh {

ClientInfo read_client_info(const base::Environment& environment) {
  return {environment("NODE_NAME").value_or(""), environment("POD_NAME").value_or(""),
          environment("CLUSTER_NAME").value_or("")};
}

void add_labels(const ClientInfo& info, google::protobuf::Map<std::string, std::string>& labels) {
  const auto add = [&](const char* label, const std::string& value) {
    if (!value.empty() && !labels.contains(label)) labels[label] = value;
  };
  add(kNodeNameLabel, info.node_name);
  add(kPodNameLabel, info.pod_name);
  add(kClusterNameLabel, info.cluster_name);
}

base::Task<base::Result<Connection>> ClientInfoLabels::request(Call& call, NetworkServiceRequest request) {
  add_labels(info_, *request.mutable_connection()->mutable_labels());
  return call.next(std::move(request));
}

}  // namespace mesh
