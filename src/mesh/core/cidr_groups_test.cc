// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/cidr_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Groups, BracketsMakeOneGroupAndABareItemAnother) {
  EXPECT_THAT(*parse_groups("[a,b],[c],d"), ElementsAre(ElementsAre("a", "b"), ElementsAre("c"), ElementsAre("d")));
  EXPECT_THAT(*parse_groups("a,b"), ElementsAre(ElementsAre("a"), ElementsAre("b")));
  EXPECT_THAT(*parse_groups("a"), ElementsAre(ElementsAre("a")));
  EXPECT_THAT(*parse_groups("d,[a]"), ElementsAre(ElementsAre("d"), ElementsAre("a")));
}

TEST(Groups, BlanksDoNotCount) {
  EXPECT_THAT(*parse_groups(" [ a , b ] ,\n c "), ElementsAre(ElementsAre("a", "b"), ElementsAre("c")));
  EXPECT_THAT(*parse_groups(" \n"), IsEmpty());
}

TEST(Groups, BrokenBracketsAndEmptyItemsAreRefused) {
  for (const auto text : {"[", "]", "[a", "a]", "[[a]]", "[a,[b]]", "[a][b]", "[a]b", "a[b]", "[]", "[a,]", "[,a]",
                          "a,", ",a", "a,,b", ",", "[a],", "[a],,[b]", "[ ]"}) {
    EXPECT_FALSE(parse_groups(text)) << text;
  }
}

std::vector<std::vector<std::string>> written(const CidrGroups& groups) {
  std::vector<std::vector<std::string>> text;
  for (const auto& group : groups) {
    auto& line = text.emplace_back();
    for (const auto& prefix : group) line.push_back(prefix.to_string());
  }
  return text;
}

TEST(CidrGroups, AreReadAsNetworks) {
  const auto groups = parse_cidr_groups("[172.16.1.0/24, 172.16.2.7/24], 2001:db8::/116");
  ASSERT_TRUE(groups) << groups.error().message();
  EXPECT_THAT(written(*groups),
              ElementsAre(ElementsAre("172.16.1.0/24", "172.16.2.0/24"), ElementsAre("2001:db8::/116")));
}

TEST(CidrGroups, EachItemMustBeAPrefix) {
  for (const auto text : {"172.16.1.0", "172.16.1.0/33", "x/24", "[172.16.1.0/24,nonsense]", "::/129"}) {
    EXPECT_FALSE(parse_cidr_groups(text)) << text;
  }
}

TEST(CidrGroups, NoneAtAllIsRefusedByAnOptionThatNamesItself) {
  CidrGroups groups;
  const std::vector<base::Option> options{
      cidr_groups_option("NSM_CIDR_PREFIX", &groups, "169.254.0.0/16", "addresses to give out")};
  ASSERT_TRUE(base::read_environment(options, [](const auto&) { return std::nullopt; }));
  EXPECT_THAT(written(groups), ElementsAre(ElementsAre("169.254.0.0/16")));
  const auto failed = base::read_environment(options, [](const auto&) { return ""; });
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message(), HasSubstr("NSM_CIDR_PREFIX is '': at least one prefix is needed"));
}

}  // namespace
}  // namespace mesh
