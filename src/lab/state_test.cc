// SPDX-License-Identifier: Apache-2.0
// Makes real namespaces, so it needs root; their names start with pbt- and are removed.
#include "lab/state.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "base/random.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

class State : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "this test makes network namespaces; run it as root";
    base::SystemRandom random;
    const std::string name = "pbt-" + base::base62(random, 8);
    places_ = {.root = fs::temp_directory_path() / name, .prefix = name};
  }
  void TearDown() override {
    EXPECT_TRUE(clean_dead_labs(places_));
    EXPECT_TRUE(list_labs(places_).empty());
    fs::remove_all(places_.root);
  }

  // A lab whose owner is another process, which is given the lab and then waits to be killed.
  // It is killed with the test, whatever becomes of that.
  template <typename Work>
  pid_t other_owner(Work work) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      auto state = LabState::create(places_, "test");
      if (!state || !work(*state)) ::_exit(1);
      std::ofstream(places_.root / "ready").flush();
      while (true) ::pause();
    }
    const Deadline deadline = in(seconds(20));
    while (!fs::exists(places_.root / "ready")) {
      if (!pause_until(deadline, milliseconds(10))) ADD_FAILURE() << "the other owner is not ready";
      if (testing::Test::HasFailure()) break;
    }
    return pid;
  }
  static void kill_and_reap(pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }

  Places places_;
};

TEST_F(State, RemoveAllLeavesNothing) {
  auto state = LabState::create(places_, "test");
  ASSERT_TRUE(state) << state.error().message();
  ASSERT_TRUE(state->add_namespace("node1"));
  ASSERT_TRUE(state->add_namespace("client"));
  auto process = Process::start({.name = "sleeper", .command = {"sleep", "60"}, .netns = state->netns_path("client")});
  ASSERT_TRUE(process);
  ASSERT_TRUE(state->record(*process));
  EXPECT_TRUE(fs::exists(state->netns_path("node1")));
  process->stop(seconds(10));
  const auto left = state->remove_all();
  EXPECT_TRUE(left.empty()) << left.front();
  EXPECT_FALSE(fs::exists(state->directory()));
  EXPECT_FALSE(fs::exists(state->netns_path("node1")));
}

TEST_F(State, ADescriptorOnANamespaceIsFoundAsLeftover) {
  auto state = LabState::create(places_, "test");
  ASSERT_TRUE(state);
  ASSERT_TRUE(state->add_namespace("node1"));
  auto holder = Process::start(
      {.name = "holder",
       .command = {"sh", "-c", "exec 9<" + state->netns_path("node1").string() + "; echo held; exec sleep 60"},
       .read_output = true});
  ASSERT_TRUE(holder);
  ASSERT_EQ(holder->next_line(in(seconds(10))), "held");
  const auto left = state->remove_all();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_NE(left[0].find(std::to_string(holder->pid())), std::string::npos) << left[0];
}

TEST_F(State, ALivingLabIsNotCleaned) {
  const pid_t owner = other_owner([](LabState& state) { return state.add_namespace("node1").has_value(); });
  const auto labs = list_labs(places_);
  ASSERT_EQ(labs.size(), 1U);
  EXPECT_TRUE(labs[0].living);
  EXPECT_EQ(labs[0].owner, owner);
  EXPECT_EQ(labs[0].pods, std::vector<std::string>{"node1"});
  const auto cleaned = clean_dead_labs(places_);
  ASSERT_TRUE(cleaned);
  EXPECT_TRUE(cleaned->empty());
  EXPECT_EQ(list_labs(places_).size(), 1U);
  kill_and_reap(owner);
}

TEST_F(State, WhatAKilledLabLeftIsCleaned) {
  const pid_t owner = other_owner([](LabState& state) {
    if (!state.add_namespace("node1")) return false;
    // A process that outlives its parent: not started through Process, so the kernel does not kill it.
    return std::system(fmt::format("ip netns exec {} sleep 300 &", state.netns_name("node1")).c_str()) == 0;
  });
  kill_and_reap(owner);
  const auto dead = list_labs(places_);
  ASSERT_EQ(dead.size(), 1U);
  EXPECT_FALSE(dead[0].living);
  const auto cleaned = clean_dead_labs(places_);
  ASSERT_TRUE(cleaned);
  EXPECT_EQ(*cleaned, std::vector<std::string>{dead[0].id});
  EXPECT_TRUE(list_labs(places_).empty());
}

TEST_F(State, NamespacesWithoutTheirDirectoryAreCleanedToo) {
  const pid_t owner = other_owner([](LabState& state) { return state.add_namespace("node1").has_value(); });
  kill_and_reap(owner);
  const auto id = list_labs(places_).at(0).id;
  fs::remove_all(places_.root / id);
  const auto cleaned = clean_dead_labs(places_);
  ASSERT_TRUE(cleaned);
  EXPECT_EQ(*cleaned, std::vector<std::string>{id});
}

TEST_F(State, AnUnreadableStateFileDoesNotStopTheCleaning) {
  const pid_t owner = other_owner([](LabState& state) {
    if (!state.add_namespace("node1")) return false;
    std::ofstream(state.directory() / "state.json") << R"({"namespaces":[null],"owner":"x"})";
    return true;
  });
  kill_and_reap(owner);
  const auto id = list_labs(places_).at(0).id;
  EXPECT_EQ(clean_dead_labs(places_), std::vector<std::string>{id});
}

TEST_F(State, OnlyKeptLabsEndFromOutside) {
  const pid_t owner = other_owner([](LabState& state) { return state.add_namespace("node1").has_value(); });
  const auto id = list_labs(places_).at(0).id;
  const auto refused = end_kept_lab(places_, id);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::Code::failed_precondition);
  EXPECT_FALSE(end_kept_lab(places_, "nosuch"));
  kill_and_reap(owner);
}

}  // namespace
}  // namespace lab
