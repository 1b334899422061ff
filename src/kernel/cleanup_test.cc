// SPDX-License-Identifier: Apache-2.0
// Clean-up finds all that bears our marks, in namespaces it was not told of, and nothing else.
#include "kernel/cleanup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/random.h"
#include "kernel/testing.h"

namespace kernel {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::KernelTest;
using testing::ping;
using testing::prefix;
using ::testing::UnorderedElementsAre;

class Cleanups : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    a_ = make_netns();
    b_ = make_netns();
    make_foreign_veth(*a_, "foreign", *b_, "foreign", {prefix("192.0.2.1/24")}, {prefix("192.0.2.2/24")});
  }

  void connect(const std::string& owner, const std::string& connection, const std::string& name) {
    auto pair = wiring_.ensure_veth({.mark = {owner, connection}, .a = {a_, name}, .b = {b_, name}, .mtu = 0});
    ASSERT_DONE(pair);
    ASSERT_DONE(apply(*a_, pair->a,
                      {.addresses = {prefix("172.16.1.2/32")},
                       .peers = {prefix("172.16.1.1/32")},
                       .policies = {{.protocol = static_cast<std::uint8_t>(100 + name.back())}}},
                      LinkState::fresh));
  }
  std::size_t our_rules(Netns& netns) {
    const auto rules = list_rules(netns).value();
    return static_cast<std::size_t>(std::ranges::count(rules, kRouteProtocol, &KernelRule::protocol));
  }
  std::vector<std::string> clean(const std::vector<std::shared_ptr<Netns>>& namespaces,
                                 std::optional<std::string> owner) {
    std::vector<std::string> told;
    const auto result = cleanup(namespaces, graveyard_, owner, [&told](const Removed& removed) {
      if (removed.kind == Removed::Kind::link)
        told.push_back(removed.name + " of " + (removed.mark ? removed.mark->connection : "?"));
    });
    EXPECT_TRUE(result.failures.empty()) << result.failures.front().message();
    return told;
  }

  std::shared_ptr<Netns> a_;
  std::shared_ptr<Netns> b_;
};

TEST_F(Cleanups, RemovesAllOfOursAndNothingForeign) {
  connect("fwd-1", "c1", "nsm-1");
  connect("fwd-2", "c2", "nsm-2");
  // A foreign rule and route beside ours.
  KernelRoute foreign{
      .destination = prefix("10.77.0.0/16"), .link = link_of(*a_, "foreign").index, .protocol = RTPROT_STATIC};
  ASSERT_DONE(a_->route().request(replace_route(foreign), "foreign route"));
  const auto rules_before = list_rules(*a_)->size() - our_rules(*a_);

  EXPECT_THAT(clean({a_, b_}, {}), UnorderedElementsAre("nsm-1 of c1", "nsm-1 of c1", "nsm-2 of c2", "nsm-2 of c2"));
  EXPECT_THAT(links_of(*a_), ElementsAre("foreign"));
  EXPECT_THAT(links_of(*b_), ElementsAre("foreign"));
  EXPECT_EQ(our_rules(*a_), 0U);
  EXPECT_EQ(list_rules(*a_)->size(), rules_before);
  const auto routes = list_routes(*a_).value();
  EXPECT_TRUE(std::ranges::none_of(routes, [](const KernelRoute& route) { return route.protocol == kRouteProtocol; }));
  EXPECT_TRUE(
      std::ranges::any_of(routes, [&](const KernelRoute& route) { return route.destination == foreign.destination; }));
  EXPECT_TRUE(ping(*a_, "192.0.2.2"));
  EXPECT_THAT(clean({a_, b_}, {}), IsEmpty());
}

TEST_F(Cleanups, OneOwnersCleanUpLeavesTheOthers) {
  connect("fwd-1", "c1", "nsm-1");
  connect("fwd-2", "c2", "nsm-2");
  ASSERT_EQ(our_rules(*a_), 4U - 2U);
  EXPECT_THAT(clean({a_, b_}, "fwd-1"), ElementsAre("nsm-1 of c1", "nsm-1 of c1"));
  EXPECT_THAT(links_of(*a_), UnorderedElementsAre("foreign", "nsm-2"));
  EXPECT_EQ(our_rules(*a_), 1U);
  const auto left = list_marked(std::array{a_, b_});
  ASSERT_DONE(left);
  ASSERT_EQ(left->size(), 2U);
  EXPECT_EQ(left->front().mark, (Mark{"fwd-2", "c2"}));
}

TEST_F(Cleanups, HalfMadeLinksAndOrphanedRulesAreFound) {
  // As if the maker had died right after the first request, and another's link had been deleted by hand.
  connect("fwd-1", "c1", "nsm-1");
  Message unlabel(RTM_SETLINK, 0, [&] {
    ifinfomsg header{};
    header.ifi_index = link_of(*a_, "nsm-1").index;
    return header;
  }());
  unlabel.put_text(IFLA_IFALIAS, "");
  ASSERT_DONE(a_->route().request(std::move(unlabel), "unlabel"));
  connect("fwd-1", "c2", "nsm-2");
  Message remove(RTM_DELLINK, 0, ifinfomsg{});
  remove.put_text(IFLA_IFNAME, "nsm-2");
  ASSERT_DONE(a_->route().request(std::move(remove), "delete"));
  ASSERT_EQ(our_rules(*a_), 2U);
  EXPECT_THAT(clean({a_}, {}), ElementsAre("nsm-1 of ?"));
  EXPECT_EQ(our_rules(*a_), 0U);
  EXPECT_THAT(links_of(*b_), ElementsAre("foreign"));
}

TEST_F(Cleanups, NamespacesOfProcessesAndMountsAreReachable) {
  // One namespace that only a process is in, one that is only mounted, as ip netns does.
  std::array<int, 2> ready{};
  ASSERT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool entered = ::unshare(CLONE_NEWNET) == 0;
    if (::write(ready[1], entered ? "y" : "n", 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char entered = 'n';
  ASSERT_EQ(::read(ready[0], &entered, 1), 1);
  ASSERT_EQ(entered, 'y');
  const base::UniqueFd read_end(ready[0]);
  const base::UniqueFd write_end(ready[1]);

  base::SystemRandom random;
  const auto mounted = "/run/netns/pbt-" + base::base62(random, 8);
  std::filesystem::create_directories("/run/netns");
  const base::UniqueFd file(::open(mounted.c_str(), O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0600));
  ASSERT_TRUE(file);
  auto only_mounted = make_netns();
  const auto key = only_mounted->key();
  ASSERT_EQ(::mount(fmt::format("/proc/self/fd/{}", only_mounted->fd()).c_str(), mounted.c_str(), "", MS_BIND, nullptr),
            0);
  only_mounted.reset();

  const auto of_process = namespaces_.from_path(fmt::format("/proc/{}/ns/net", child));
  ASSERT_DONE(of_process);
  std::vector<NetnsKey> keys;
  for (const auto& netns : reachable(namespaces_)) keys.push_back(netns->key());
  EXPECT_THAT(keys, Contains(key));
  EXPECT_THAT(keys, Contains((*of_process)->key()));
  EXPECT_THAT(keys, Contains((*namespaces_.current())->key()));
  std::ranges::sort(keys);
  EXPECT_EQ(std::ranges::adjacent_find(keys), keys.end());

  ::umount2(mounted.c_str(), MNT_DETACH);
  std::filesystem::remove(mounted);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_F(Cleanups, LinksThatWereRetiredButNotDeletedGoToo) {
  connect("fwd-1", "c1", "nsm-1");
  Graveyard crashed(std::chrono::hours(1));  // buries, and does not come round to deleting in this test
  ASSERT_DONE(crashed.bury({{a_, link_of(*a_, "nsm-1").index}}));
  EXPECT_EQ(links_of(*a_).size(), 2U);
  EXPECT_THAT(clean({a_}, {}), IsEmpty());
  EXPECT_THAT(links_of(*a_), ElementsAre("foreign"));
}

TEST_F(Cleanups, SweepDeletesOnlyWhatWasRetired) {
  connect("fwd-1", "c1", "nsm-1");
  connect("fwd-1", "c2", "nsm-2");
  Graveyard crashed(std::chrono::hours(1));
  ASSERT_DONE(crashed.bury({{a_, link_of(*a_, "nsm-1").index}}));
  ASSERT_DONE(sweep(std::array{a_, b_}, graveyard_));
  EXPECT_THAT(links_of(*a_), UnorderedElementsAre("foreign", "nsm-2"));
  EXPECT_THAT(links_of(*b_), UnorderedElementsAre("foreign", "nsm-2"));
}

}  // namespace
}  // namespace kernel
