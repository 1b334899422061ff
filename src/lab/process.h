// SPDX-License-Identifier: Apache-2.0
// Child processes of the lab: started inside a network namespace, killed by the kernel if the lab dies, always reaped.
// Single-threaded and blocking: the lab is a straight line, not an event loop. Every wait has a deadline and ends early
// when a stop was requested.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace lab {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline Deadline in(milliseconds delay) { return Clock::now() + delay; }

// Sleeps, but not beyond the deadline; false when a stop was requested or the deadline has passed.
bool pause_until(Deadline deadline, milliseconds step);

struct ProcessSpec {
  std::string name;                                  // what messages call it
  std::vector<std::string> command;                  // command[0] "patchbay" runs this very program
  std::map<std::string, std::string> environment{};  // set on top of ours, which is cleared of NSM's variables
  std::filesystem::path netns{};                     // the namespace's file; empty: ours
  std::filesystem::path log{};                       // made anew; gets standard error, and output unless read
  bool same_streams = false;                         // output and errors go where ours go, instead of to the log
  bool read_output = false;                          // standard output is read with next_line()
  bool new_session = true;                           // out of the terminal's reach: Ctrl-C is the lab's to handle
};

// How a process ended when it was asked to.
enum class Ending { had_ended, on_request, by_force };

class Process {
 public:
  static base::Result<Process> start(const ProcessSpec& spec);
  ~Process();  // SIGKILL if it still runs
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const std::string& name() const { return name_; }
  const std::filesystem::path& log() const { return log_; }
  pid_t pid() const { return pid_; }
  std::uint64_t start_time() const { return start_time_; }  // field 22 of /proc/PID/stat: tells a reused pid

  bool running();
  // How it ended, in words: "exit status 1", "killed by signal 9"; "running" while it does.
  std::string state();

  // The next whole line of standard output, without its newline. Errors: deadline_exceeded, cancelled, unavailable (the
  // process closed its output). Requires read_output.
  base::Result<std::string> next_line(Deadline deadline);

  // Waits for the end by itself; the exit status, or 128 + signal.
  base::Result<int> wait(Deadline deadline);

  // SIGTERM, and SIGKILL for one that has not ended within the grace.
  Ending stop(milliseconds grace);

 private:
  Process() = default;
  bool reap();

  std::string name_;
  std::filesystem::path log_;
  pid_t pid_ = -1;
  std::uint64_t start_time_ = 0;
  base::UniqueFd pidfd_;
  base::UniqueFd output_;
  std::string unread_;
  std::optional<int> status_;  // as waitpid reports it
};

struct CommandOutput {
  int status = 0;  // exit status, or 128 + signal
  std::string out;
  std::string err;
};

// Runs a command to its end. An error only if it could not be run or did not end in time.
base::Result<CommandOutput> run_command(const std::vector<std::string>& command, const std::filesystem::path& netns,
                                        Deadline deadline);
// The output of a command that must succeed; otherwise the error carries the command and what it said.
base::Result<std::string> output_of(const std::vector<std::string>& command, const std::filesystem::path& netns = {},
                                    Deadline deadline = in(seconds(10)));

// Start time of a process, or nothing if there is none with this pid.
std::optional<std::uint64_t> start_time_of(pid_t pid);

// The last lines of a file, for messages; empty if there is none.
std::string tail(const std::filesystem::path& file, std::size_t lines);
std::string read_file(const std::filesystem::path& file);

}  // namespace lab
