// SPDX-License-Identifier: Apache-2.0
#include "identity/server/rules.h"

#include <gmock/gmock.h>

#include <fstream>

#include "rpc/http2/test_world.h"

namespace identity {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Place kPlace{"a.test", "node-1"};

Caller caller(uid_t uid, std::optional<std::string> executable = std::nullopt,
              std::optional<std::string> cgroup = std::nullopt, std::optional<std::string> pod_uid = std::nullopt) {
  Caller one;
  one.uid = uid;
  one.gid = 7;
  one.executable = std::move(executable);
  one.cgroup = std::move(cgroup);
  one.pod_uid = std::move(pod_uid);
  return one;
}

std::vector<std::string> ids(const Rules& rules, const Caller& who) {
  std::vector<std::string> texts;
  for (const auto& id : rules.ids_of(who)) texts.push_back(id.text());
  return texts;
}

Rules parse(const std::string& text) {
  auto rules = Rules::parse(text, "test", kPlace);
  EXPECT_TRUE(rules) << rules.error().message();
  return rules ? std::move(*rules) : Rules::standard(kPlace);
}

TEST(RulesTest, WithoutAFileOnlyRootIsSomebody) {
  const auto rules = Rules::standard(kPlace);
  EXPECT_THAT(ids(rules, caller(0, "/usr/bin/patchbay")), ElementsAre("spiffe://a.test/host/node-1/uid/0/patchbay"));
  EXPECT_THAT(ids(rules, caller(1000, "/usr/bin/patchbay")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(0)), IsEmpty());  // its executable is not known
}

TEST(RulesTest, AllSelectorsHaveToMatch) {
  const auto rules = parse(
      "workloads:\n"
      "- {uid: 1, gid: 7, executable: /bin/x, cgroup: /a/b, pod_uid: p, id: 'spiffe://a.test/all'}\n");
  EXPECT_THAT(ids(rules, caller(1, "/bin/x", "/a/b", "p")), ElementsAre("spiffe://a.test/all"));
  EXPECT_THAT(ids(rules, caller(2, "/bin/x", "/a/b", "p")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(1, "/bin/y", "/a/b", "p")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(1, std::nullopt, "/a/b", "p")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(1, "/bin/x", "/a", "p")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(1, "/bin/x", std::nullopt, "p")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(1, "/bin/x", "/a/b", "q")), IsEmpty());
  auto other_group = caller(1, "/bin/x", "/a/b", "p");
  other_group.gid = 8;
  EXPECT_THAT(ids(rules, other_group), IsEmpty());
}

TEST(RulesTest, CgroupsMatchWholeNames) {
  const auto rules = parse("workloads:\n- {cgroup: /a/b, id: 'spiffe://a.test/x'}\n");
  EXPECT_THAT(ids(rules, caller(1, std::nullopt, "/a/b/c")), ElementsAre("spiffe://a.test/x"));
  EXPECT_THAT(ids(rules, caller(1, std::nullopt, "/a/bc")), IsEmpty());
  const auto everybody = parse("workloads:\n- {cgroup: /, id: 'spiffe://a.test/x'}\n");
  EXPECT_THAT(ids(everybody, caller(1, std::nullopt, "/a")), ElementsAre("spiffe://a.test/x"));
}

TEST(RulesTest, AllThatMatchAreHandedOutTheFirstFirst) {
  const auto rules = parse(
      "workloads:\n"
      "- {uid: 1, id: 'spiffe://{trust_domain}/u/{uid}'}\n"
      "- {gid: 7, id: 'spiffe://a.test/{host}/{executable}'}\n"
      "- {gid: 7, id: 'spiffe://a.test/u/1'}\n");
  EXPECT_THAT(ids(rules, caller(1, "/opt/tool")), ElementsAre("spiffe://a.test/u/1", "spiffe://a.test/node-1/tool"));
  EXPECT_THAT(ids(rules, caller(2)), ElementsAre("spiffe://a.test/u/1"));
}

TEST(RulesTest, AnExecutableThatFitsNoIdGetsNone) {
  const auto rules = parse("workloads:\n- {uid: 1, id: 'spiffe://a.test/{executable}'}\n");
  EXPECT_THAT(ids(rules, caller(1, "/opt/a tool")), IsEmpty());
  EXPECT_THAT(ids(rules, caller(1, "/opt/gone (deleted)")), IsEmpty());
}

TEST(RulesTest, NoPlaceholderLeadsOutOfItsSegment) {
  const auto rules = parse("workloads:\n- {uid: 1, id: 'spiffe://a.test/{executable}'}\n");
  EXPECT_THAT(ids(rules, caller(1, "/opt/..")), IsEmpty());
  // The reserved path, by a program of that name:
  EXPECT_THAT(ids(rules, caller(1, "/opt/patchbay")), IsEmpty());
}

TEST(RulesTest, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "must begin with workloads: or nodes:"},
      {"- x", "must begin with workloads: or nodes:"},
      {"workload: []", "there is no 'workload'"},
      {"workloads: 1", "must be a list"},
      {"workloads:\n- x\n", "line 2: it must consist of key: value"},
      {"workloads:\n- {uid: 1}\n", "it has no id"},
      {"workloads:\n- {id: 'spiffe://a.test/x'}\n", "it says nothing of its callers"},
      {"workloads:\n- {uid: -1, id: 'spiffe://a.test/x'}\n", "uid '-1'"},
      {"workloads:\n- {uid: 4294967295, id: 'spiffe://a.test/x'}\n", "uid '4294967295'"},
      {"workloads:\n- {uid: [1], id: 'spiffe://a.test/x'}\n", "line 2"},
      {"workloads:\n- {user: 1, id: 'spiffe://a.test/x'}\n", "there is no 'user'"},
      {"workloads:\n- {executable: x, id: 'spiffe://a.test/x'}\n", "no absolute path"},
      {"workloads:\n- {uid: 1, id: 'spiffe://b.test/x'}\n", "not of trust domain a.test"},
      {"workloads:\n- {uid: 1, id: 'spiffe://a.test'}\n", "the trust domain itself"},
      {"workloads:\n- {uid: 1, id: 'spiffe://a.test/patchbay/ca'}\n", "reserved"},
      {"workloads:\n- {uid: 1, id: 'spiffe://a.test/{user}'}\n", "placeholder that does not exist"},
      {"workloads:\n- {uid: 1, id: 'spiffe://a.test/{uid'}\n", "placeholder that does not exist"},
      {"workloads:\n- {uid: 1, id: 'spiffe://a.test/uid}'}\n", "placeholder that does not exist"},
      {"workloads:\n- {uid: 1, id: 'http://a.test/x'}\n", "http://a.test/x"},
      {"nodes:\n- {ids: []}\n", "it names no node"},
      {"nodes:\n- {node: x}\n", "it has no ids"},
      {"nodes:\n- {node: x, ids: ['spiffe://b.test/x']}\n", "not of trust domain a.test"},
      {"workloads: [", "line"},
  };
  for (const auto& [text, why] : cases) {
    const auto rules = Rules::parse(text, "the-file", kPlace);
    ASSERT_FALSE(rules) << text;
    EXPECT_THAT(rules.error().message(), HasSubstr(why)) << text;
    EXPECT_THAT(rules.error().message(), HasSubstr("the-file")) << text;
  }
}

TEST(RulesTest, ReadsAFile) {
  const rpc::testing::ScratchDirectory scratch;
  const auto path = scratch.path() + "/rules";
  EXPECT_FALSE(Rules::read(path, kPlace));
  std::ofstream(path) << "workloads:\n- {uid: 5, id: 'spiffe://a.test/five'}\n";
  const auto rules = Rules::read(path, kPlace);
  ASSERT_TRUE(rules);
  EXPECT_THAT(ids(*rules, caller(5)), ElementsAre("spiffe://a.test/five"));
}

TEST(NodeRulesTest, NodesMayIssueWhatIsNotReserved) {
  const auto rules = Rules::standard(kPlace);
  EXPECT_TRUE(rules.admits("edge"));
  EXPECT_TRUE(rules.check_node("edge", *SpiffeId::parse("spiffe://a.test/anything")));
  for (const auto* id : {"spiffe://a.test/patchbay", "spiffe://a.test/patchbay/ca", "spiffe://a.test/patchbay/node/x",
                         "spiffe://a.test", "spiffe://b.test/x"}) {
    EXPECT_FALSE(rules.check_node("edge", *SpiffeId::parse(id))) << id;
  }
}

TEST(NodeRulesTest, RulesNarrowIt) {
  const auto rules = parse(
      "nodes:\n"
      "- {node: '*', ids: ['spiffe://a.test/shared']}\n"
      "- {node: edge, ids: ['spiffe://a.test/edge']}\n"
      "- {node: lost, ids: []}\n");
  const auto may = [&](const char* node, const char* id) {
    return rules.check_node(node, *SpiffeId::parse(id)).has_value();
  };
  EXPECT_TRUE(may("edge", "spiffe://a.test/edge/x"));
  EXPECT_FALSE(may("edge", "spiffe://a.test/edges"));
  EXPECT_FALSE(may("edge", "spiffe://a.test/shared"));
  EXPECT_TRUE(may("other", "spiffe://a.test/shared"));
  EXPECT_FALSE(may("lost", "spiffe://a.test/shared"));
  EXPECT_FALSE(rules.admits("lost"));
}

}  // namespace
}  // namespace identity
