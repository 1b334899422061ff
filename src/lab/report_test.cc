// SPDX-License-Identifier: Apache-2.0
#include "lab/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace lab {
namespace {

RunReport sample() {
  LinkView link{.name = "nsm-1", .kind = "vxlan", .up = true, .mtu = 1446, .addresses = {"172.16.1.101/32"}};
  LinkView other{.name = "nse-1", .kind = "vxlan", .up = true, .mtu = 1446, .addresses = {"172.16.1.100/32"}};
  CaseReport one;
  one.name = "Kernel2Ethernet2Kernel";
  one.plane = "kernel";
  one.wire = "vxlan";
  one.client = Side{"client", "node1", "10.77.0.1", link};
  one.endpoint = Side{"endpoint", "node2", "10.77.0.2", other};
  one.path = {"client", "nsmgr-node1"};
  one.check("connected", true, "in 12 ms");
  one.pings.push_back({"client", "endpoint", "172.16.1.100", 84, {4, 4, 0.1, 0.2, 0.3}});
  RunReport run{.lab = "abc123", .underlay = "10.77.0.0/24, MTU 1500"};
  run.cases.push_back(one);
  run.checks.push_back({"nothing left behind", true, "nothing"});
  return run;
}

TEST(Report, PassesOnlyIfEveryCheckDid) {
  EXPECT_TRUE(sample().passed());

  auto failed_case = sample();
  EXPECT_FALSE(failed_case.cases[0].check("plane", false, "went another way"));
  EXPECT_FALSE(failed_case.cases[0].passed());
  EXPECT_FALSE(failed_case.passed());

  auto left_behind = sample();
  left_behind.checks[0].passed = false;
  EXPECT_FALSE(left_behind.passed());
}

TEST(Report, NothingCheckedIsNotAPass) {
  EXPECT_FALSE(CaseReport{}.passed());
  EXPECT_FALSE(RunReport{}.passed());
}

TEST(Report, JsonHasThePromisedShape) {
  auto run = sample();
  run.cases[0].check("odd", false, "not UTF-8: \xff");
  const auto json = nlohmann::json::parse(to_json(run));
  EXPECT_FALSE(json["passed"].get<bool>());
  ASSERT_EQ(json["cases"].size(), 1U);
  const auto& one = json["cases"][0];
  EXPECT_EQ(one["name"], "Kernel2Ethernet2Kernel");
  EXPECT_EQ(one["plane"], "kernel");
  EXPECT_FALSE(one["passed"].get<bool>());
  EXPECT_EQ(one["checks"][0]["name"], "connected");
  EXPECT_TRUE(one["checks"][0]["passed"].get<bool>());
  EXPECT_EQ(one["checks"][0]["detail"], "in 12 ms");
  EXPECT_EQ(one["pings"][0]["answered"], 4);
  EXPECT_TRUE(one["throughput_mbps"].is_null());
}

TEST(Report, TextEndsWithThePingTableAndDrawsTheWire) {
  const std::string text = to_text(sample());
  EXPECT_NE(text.find("10.77.0.1 > vxlan > 10.77.0.2"), std::string::npos) << text;
  EXPECT_NE(text.find("path: client > nsmgr-node1"), std::string::npos) << text;
  EXPECT_LT(text.find("ANSWERED"), text.find("4/4")) << text;
  EXPECT_TRUE(text.ends_with("1 of 1 cases passed\n")) << text;
}

}  // namespace
}  // namespace lab
