// SPDX-License-Identifier: Apache-2.0
#include "lab/cases.h"

#include <gtest/gtest.h>

#include <set>

#include "lab/run_case.h"

namespace lab {
namespace {

std::vector<std::string> names_of(const std::vector<const Case*>& cases) {
  std::vector<std::string> names;
  for (const auto* one : cases) names.emplace_back(one->name);
  return names;
}

TEST(Cases, NamesAreUniqueAndServiceNamesAreDnsLabels) {
  std::set<std::string> services;
  for (const auto& one : all_cases()) {
    const std::string service = service_name(one);
    EXPECT_TRUE(services.insert(service).second) << service;
    EXPECT_EQ(service.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"), std::string::npos) << service;
    EXPECT_FALSE(one.addresses.empty()) << one.name;
  }
}

TEST(Cases, AllMeansThoseThatCanRun) {
  const std::vector<std::string> all{"all"};
  const auto chosen = select_cases(all);
  ASSERT_TRUE(chosen);
  EXPECT_GE(chosen->size(), 6U);
  for (const auto* one : *chosen) EXPECT_EQ(one->needs, Needs::any_plane) << one->name;
}

TEST(Cases, AreChosenInTheOrderGiven) {
  const std::vector<std::string> wanted{"Kernel2IP2Kernel_ipv6", "Kernel2Ethernet2Kernel"};
  const auto chosen = select_cases(wanted);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(names_of(*chosen), wanted);
}

TEST(Cases, UnknownNameListsTheKnownOnes) {
  const std::vector<std::string> wanted{"Kernel2Ethernet2Kernel", "kernel2kernel"};
  const auto chosen = select_cases(wanted);
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().code(), base::Code::invalid_argument);
  EXPECT_NE(chosen.error().message().find("'kernel2kernel'"), std::string::npos);
  for (const auto& one : all_cases()) {
    EXPECT_NE(chosen.error().message().find(one.name), std::string::npos) << one.name;
  }
}

TEST(Cases, ThoseOfTheVectorPlaneAreRefused) {
  for (const char* name : {"Memif2Ethernet2Memif", "VirtualWire"}) {
    const std::vector<std::string> wanted{name};
    const auto chosen = select_cases(wanted);
    ASSERT_FALSE(chosen) << name;
    EXPECT_EQ(chosen.error().code(), base::Code::failed_precondition);
    EXPECT_NE(chosen.error().message().find("vector plane"), std::string::npos);
  }
}

TEST(Cases, MtuIsWhatNsmReports) {
  EXPECT_EQ(expected_mtu(true, UnderlayFamily::v4, 1500), 9000U);
  EXPECT_EQ(expected_mtu(false, UnderlayFamily::v4, 1500), 1446U);
  EXPECT_EQ(expected_mtu(false, UnderlayFamily::v6, 1500), 1426U);
  EXPECT_EQ(expected_mtu(false, UnderlayFamily::v4, 65535), 9000U);
}

TEST(Cases, ConnectedEventIsReadAndOtherLinesAreNot) {
  const auto event = parse_connected(
      R"({"event":"connected","id":"client-0","service":"s","interface":"nsm-1","src":["172.16.1.101/32"],)"
      R"("dst":["172.16.1.100/32"],"mtu":1446,"path":["client","nsmgr-node1"],"endpoint":"endpoint-x","ms":12.5})");
  ASSERT_TRUE(event);
  EXPECT_EQ(event->interface, "nsm-1");
  EXPECT_EQ(event->source, std::vector<std::string>{"172.16.1.101/32"});
  EXPECT_EQ(event->destination, std::vector<std::string>{"172.16.1.100/32"});
  EXPECT_EQ(event->mtu, 1446U);
  EXPECT_EQ(event->path, (std::vector<std::string>{"client", "nsmgr-node1"}));
  EXPECT_EQ(event->endpoint, "endpoint-x");
  EXPECT_DOUBLE_EQ(event->milliseconds, 12.5);

  EXPECT_FALSE(parse_connected(""));
  EXPECT_FALSE(parse_connected("NSM_NAME string"));
  EXPECT_FALSE(parse_connected("[1]"));
  EXPECT_FALSE(parse_connected(R"({"event":"closed"})"));
  EXPECT_FALSE(parse_connected(R"({"event":7})"));
  EXPECT_TRUE(parse_connected(R"({"event":"connected","src":[7],"mtu":"x","path":["a"],"endpoint":1})"));
}

}  // namespace
}  // namespace lab
