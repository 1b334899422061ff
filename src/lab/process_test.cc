// SPDX-License-Identifier: Apache-2.0
#include "lab/process.h"

#include <gtest/gtest.h>

#include <csignal>

namespace lab {
namespace {

TEST(Process, OutputAndStatusOfACommand) {
  const auto done = run_command({"sh", "-c", "echo out; echo err >&2; exit 3"}, {}, in(seconds(10)));
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(done->out, "out\n");
  EXPECT_EQ(done->err, "err\n");
  EXPECT_EQ(done->status, 3);
}

TEST(Process, ManyLinesDoNotBlockTheCommand) {
  const auto done = run_command({"sh", "-c", "seq 1 100000; seq 1 100000 >&2"}, {}, in(seconds(20)));
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(done->out, done->err);
  EXPECT_TRUE(done->out.ends_with("\n100000\n"));
}

TEST(Process, AFailingCommandSaysWhatItSaid) {
  const auto text = output_of({"sh", "-c", "echo 'no such thing' >&2; exit 1"});
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message().find("no such thing"), std::string::npos);
}

TEST(Process, AMissingProgramIsToldByName) {
  const auto text = output_of({"patchbay-no-such-program"});
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message().find("patchbay-no-such-program"), std::string::npos);
}

TEST(Process, ACommandThatTakesTooLongIsKilled) {
  const auto started = Clock::now();
  const auto done = run_command({"sleep", "60"}, {}, in(milliseconds(200)));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), base::Code::deadline_exceeded);
  EXPECT_LT(Clock::now() - started, seconds(10));
}

TEST(Process, LinesAreReadAsTheyCome) {
  auto process = Process::start(
      {.name = "talker", .command = {"sh", "-c", "echo one; echo two; printf 'half'"}, .read_output = true});
  ASSERT_TRUE(process) << process.error().message();
  EXPECT_EQ(process->next_line(in(seconds(10))), "one");
  EXPECT_EQ(process->next_line(in(seconds(10))), "two");
  const auto end = process->next_line(in(seconds(10)));
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), base::Code::unavailable);
}

TEST(Process, SilenceEndsAtTheDeadline) {
  auto process = Process::start({.name = "silent", .command = {"sleep", "60"}, .read_output = true});
  ASSERT_TRUE(process);
  const auto line = process->next_line(in(milliseconds(100)));
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code(), base::Code::deadline_exceeded);
}

TEST(Process, StopsOnRequestOrByForce) {
  auto polite = Process::start({.name = "polite", .command = {"sleep", "60"}});
  ASSERT_TRUE(polite);
  EXPECT_TRUE(polite->running());
  EXPECT_EQ(polite->stop(seconds(10)), Ending::on_request);
  EXPECT_EQ(polite->state(), "killed by signal 15");
  EXPECT_EQ(polite->stop(seconds(1)), Ending::had_ended);

  auto stubborn = Process::start({.name = "stubborn",
                                  .command = {"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"},
                                  .read_output = true});
  ASSERT_TRUE(stubborn);
  ASSERT_EQ(stubborn->next_line(in(seconds(10))), "ready");
  EXPECT_EQ(stubborn->stop(milliseconds(200)), Ending::by_force);
  EXPECT_EQ(stubborn->state(), "killed by signal 9");
}

TEST(Process, EnvironmentIsClearedOfOtherMeshes) {
  ::setenv("NSM_NAME", "of the user", 1);
  ::setenv("LAB_TEST_KEPT", "kept", 1);
  auto process = Process::start({.name = "printer",
                                 .command = {"sh", "-c", "echo \"$NSM_NAME,$LAB_TEST_KEPT,$NSM_CONNECT_TO\""},
                                 .environment = {{"NSM_CONNECT_TO", "unix:///x"}},
                                 .read_output = true});
  ASSERT_TRUE(process);
  EXPECT_EQ(process->next_line(in(seconds(10))), ",kept,unix:///x");
}

TEST(Process, StartTimeTellsLivingFromDead) {
  auto process = Process::start({.name = "sleeper", .command = {"sleep", "60"}});
  ASSERT_TRUE(process);
  const pid_t pid = process->pid();
  EXPECT_EQ(start_time_of(pid), process->start_time());
  EXPECT_NE(process->start_time(), 0U);
  process->stop(seconds(10));
  EXPECT_FALSE(start_time_of(pid));
}

TEST(Process, TailIsTheLastLines) {
  const auto file = std::filesystem::temp_directory_path() / ("pbt-tail-" + std::to_string(::getpid()));
  ASSERT_TRUE(output_of({"sh", "-c", "printf 'a\\nb\\nc\\n' > " + file.string()}));
  EXPECT_EQ(tail(file, 2), "b\nc");
  EXPECT_EQ(tail(file, 10), "a\nb\nc");
  std::filesystem::remove(file);
  EXPECT_EQ(tail(file, 2), "");
}

}  // namespace
}  // namespace lab
