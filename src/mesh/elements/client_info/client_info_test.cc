// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/client_info/client_info.h"

#include <gtest/gtest.h>

#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using fakes::ChainBench;

TEST(ClientInfo, LabelsAreAddedToTheRequest) {
  ChainBench bench(std::make_shared<ClientInfoLabels>(ClientInfo{"node-1", "pod-1", "cluster-1"}));
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  const Labels sent = ordered(bench.below->requests[0].connection().labels());
  EXPECT_EQ(sent, (Labels{{"nodeName", "node-1"}, {"podName", "pod-1"}, {"clusterName", "cluster-1"}}));
}

TEST(ClientInfo, LabelOfTheUsersIsNotOverwritten) {
  ChainBench bench(std::make_shared<ClientInfoLabels>(ClientInfo{"node-1", "", ""}));
  auto request = bench.asking("c1");
  (*request.mutable_connection()->mutable_labels())["nodeName"] = "elsewhere";
  ASSERT_TRUE(bench.request(request));
  EXPECT_EQ(ordered(bench.below->requests[0].connection().labels()), (Labels{{"nodeName", "elsewhere"}}));
}

TEST(ClientInfo, WhatIsUnknownGetsNoLabel) {
  ChainBench bench(std::make_shared<ClientInfoLabels>(ClientInfo{"", "pod-1", ""}));
  ASSERT_TRUE(bench.request(bench.asking("c1")));
  EXPECT_EQ(ordered(bench.below->requests[0].connection().labels()), (Labels{{"podName", "pod-1"}}));
}

TEST(ClientInfo, ComesFromTheEnvironment) {
  const auto info = read_client_info([](const std::string& name) -> std::optional<std::string> {
    if (name == "NODE_NAME") return "n";
    if (name == "CLUSTER_NAME") return "c";
    return std::nullopt;
  });
  EXPECT_EQ(info.node_name, "n");
  EXPECT_EQ(info.pod_name, "");
  EXPECT_EQ(info.cluster_name, "c");
}

}  // namespace
}  // namespace mesh
