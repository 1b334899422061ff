// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/excluded_prefixes/node_excluded_prefixes.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

#include "base/log.h"
#include "fakes/chain_bench.h"

namespace mesh {
namespace {

using namespace std::chrono_literals;
using fakes::ChainBench;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct PrefixFileTest : ::testing::Test {
  fakes::ManualScheduler scheduler;
  std::optional<FileStamp> stamp = FileStamp{1, 2, 3, 4};
  base::Result<std::string> text = std::string("prefixes: [10.0.0.0/8]");
  int looks = 0;
  int reads = 0;
  std::string log;
  PrefixFile file{scheduler, "/etc/excluded.yaml",
                  FileAccess{[this](const std::string&) {
                               ++looks;
                               return stamp;
                             },
                             [this](const std::string&) {
                               ++reads;
                               return text;
                             }}};

  PrefixFileTest() {
    base::log::set_sink([this](base::log::Level level, std::string_view line) {
      if (level == base::log::Level::warning) log += line;
    });
  }
  ~PrefixFileTest() override { base::log::set_sink({}); }
  void replace(std::string with) {
    ++stamp->inode;
    text = std::move(with);
    scheduler.run_for(1s);
  }
};

TEST_F(PrefixFileTest, IsReadOnceAndLookedAtOnceASecond) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
    scheduler.run_for(100ms);
  }
  EXPECT_EQ(looks, 2);
  EXPECT_EQ(reads, 1);
}

TEST_F(PrefixFileTest, ReplacedFileIsReadAgain) {
  ASSERT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
  replace("prefixes:\n- 10.96.0.0/12\n- 2001:db8::/32\n");
  EXPECT_THAT(file.prefixes(), ElementsAre("10.96.0.0/12", "2001:db8::/32"));
}

TEST_F(PrefixFileTest, ChangedTimeAloneIsAChange) {
  ASSERT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
  text = std::string("prefixes: []");
  ++stamp->modified_ns;
  scheduler.run_for(1s);
  EXPECT_THAT(file.prefixes(), IsEmpty());
}

TEST_F(PrefixFileTest, BrokenFileIsNamedOnceAndTheLastGoodListStays) {
  ASSERT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
  replace("prefixes: [10.0.0.0/99]");
  EXPECT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
  EXPECT_THAT(log, HasSubstr("/etc/excluded.yaml"));
  EXPECT_THAT(log, HasSubstr("10.0.0.0/99"));
  log.clear();
  scheduler.run_for(5s);
  EXPECT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
  EXPECT_EQ(log, "");
  replace("prefixes: [10.1.0.0/16]");
  EXPECT_THAT(file.prefixes(), ElementsAre("10.1.0.0/16"));
}

TEST_F(PrefixFileTest, UnreadableFileIsNamed) {
  text = base::fail(base::Code::permission_denied, "cannot open it: Permission denied");
  EXPECT_THAT(file.prefixes(), IsEmpty());
  EXPECT_THAT(log, HasSubstr("/etc/excluded.yaml: cannot open it"));
}

TEST_F(PrefixFileTest, MissingFileExcludesNothing) {
  stamp.reset();
  EXPECT_THAT(file.prefixes(), IsEmpty());
  EXPECT_EQ(reads, 0);
  EXPECT_EQ(log, "");
}

TEST_F(PrefixFileTest, FileThatGoesAwayExcludesNothing) {
  ASSERT_THAT(file.prefixes(), ElementsAre("10.0.0.0/8"));
  stamp.reset();
  scheduler.run_for(1s);
  EXPECT_THAT(file.prefixes(), IsEmpty());
}

TEST(PrefixList, ForgivesWhatNsmForgives) {
  EXPECT_THAT(*parse_prefix_list(""), IsEmpty());
  EXPECT_THAT(*parse_prefix_list("prefixes:"), IsEmpty());
  EXPECT_THAT(*parse_prefix_list("other: 1"), IsEmpty());
  EXPECT_THAT(*parse_prefix_list("Prefixes: [10.0.0.7/8, 10.0.0.0/8, 192.0.2.1]"),
              ElementsAre("10.0.0.0/8", "192.0.2.1/32"));
}

TEST(PrefixList, RefusesEverythingElse) {
  for (const char* text : {"prefixes: 10.0.0.0/8", "[10.0.0.0/8]", "prefixes: [[10.0.0.0/8]]", "prefixes: [1",
                           "prefixes: [x]", "\x01", "prefixes: {a: b}"}) {
    EXPECT_FALSE(parse_prefix_list(text)) << text;
  }
}

TEST(LocalFiles, SeeAFileAndItsReplacement) {
  char folder[] = "/tmp/pbt-prefixes-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/excluded_prefixes.yaml";
  const FileAccess files = local_files();
  EXPECT_FALSE(files.stamp(path));
  EXPECT_FALSE(files.read(path));
  std::ofstream(path) << "prefixes: []";
  const auto before = files.stamp(path);
  ASSERT_TRUE(before);
  EXPECT_EQ(*files.read(path), "prefixes: []");
  std::ofstream(path + ".new") << "prefixes: []";
  ASSERT_EQ(std::rename((path + ".new").c_str(), path.c_str()), 0);
  EXPECT_NE(files.stamp(path), before);
  std::ofstream(path) << std::string(2 << 20, ' ');
  EXPECT_FALSE(files.read(path));
  ::unlink(path.c_str());
  ::rmdir(folder);
}

TEST(NodeExcludedPrefixes, FilesPrefixesAreAddedOnce) {
  fakes::ManualScheduler scheduler;
  PrefixFile file(scheduler, "x",
                  FileAccess{[](const std::string&) { return FileStamp{}; },
                             [](const std::string&) { return std::string("prefixes: [10.0.0.0/8, 10.96.0.0/12]"); }});
  ChainBench bench(std::make_shared<NodeExcludedPrefixes>(std::move(file)));
  auto request = bench.asking("c1");
  auto& ip = *request.mutable_connection()->mutable_context()->mutable_ip_context();
  ip.add_excluded_prefixes("172.16.0.0/16");
  ip.add_excluded_prefixes("10.96.0.0/12");
  const auto first = bench.request(request);
  const auto second = bench.request(bench.refreshing(*first));
  const auto& field = second->context().ip_context().excluded_prefixes();
  EXPECT_THAT(std::vector<std::string>(field.begin(), field.end()),
              ElementsAre("172.16.0.0/16", "10.96.0.0/12", "10.0.0.0/8"));
}

}  // namespace
}  // namespace mesh
