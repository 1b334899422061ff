// SPDX-License-Identifier: Apache-2.0
#include "sim/run.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>

#include "base/log.h"

namespace sim {

namespace {

constexpr std::uint64_t kSeedsPerChild = 10;

void print(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

// Runs a slice of the seeds and writes those that fail to the pipe.
void run_slice(std::uint64_t first, std::uint64_t last, const MeshOptions& options, int report) {
  for (std::uint64_t seed = first; seed < last; ++seed) {
    auto outcome = run_seed(seed, options);
    if (!outcome.violation && seed % 10 == 0 && run_seed(seed, options).hash != outcome.hash) {
      outcome.violation = "two runs of the seed differ";
    }
    if (!outcome.violation) continue;
    const auto line = fmt::format("{} {}\n", seed, *outcome.violation);
    if (::write(report, line.data(), line.size()) < 0) ::_exit(1);
  }
}

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const auto got = ::read(fd, buffer, sizeof buffer);
    if (got > 0) {
      text.append(buffer, static_cast<std::size_t>(got));
    } else if (got == 0 || errno != EINTR) {
      return text;
    }
  }
}

}  // namespace

Outcome run_seed(std::uint64_t seed, const MeshOptions& options, bool echo) {
  base::log::set_level(echo ? base::log::Level::debug : base::log::Level::info);
  MeshWorld mesh(seed, options);
  if (echo) mesh.world().log().echo([](std::string_view line) { print(std::string(line)); });
  mesh.run();
  Outcome outcome;
  outcome.seed = seed;
  outcome.hash = mesh.world().log().hash();
  outcome.events = mesh.world().events();
  outcome.wires = mesh.wires_in_calm();
  outcome.violation = mesh.world().violation();
  outcome.last.assign(mesh.world().log().last().begin(), mesh.world().log().last().end());
  return outcome;
}

std::string replay_command(std::uint64_t seed, const MeshOptions& options) {
  return fmt::format("patchbay-sim --seed {} --nodes {} --steps {}{}", seed, options.nodes, options.steps,
                     options.faults ? "" : " --no-faults");
}

std::vector<std::uint64_t> run_batch(std::uint64_t first, std::uint64_t count, const MeshOptions& options,
                                     unsigned jobs) {
  struct Child {
    std::uint64_t first;
    std::uint64_t last;
    int report;
  };
  std::map<pid_t, Child> children;
  std::vector<std::uint64_t> failed;
  std::uint64_t next = first;
  std::uint64_t done = 0;
  std::uint64_t announced = 0;
  while (next < first + count || !children.empty()) {
    while (next < first + count && children.size() < jobs) {
      const auto last = std::min(next + kSeedsPerChild, first + count);
      int ends[2];
      if (::pipe(ends) != 0) {
        print("cannot make a pipe");
        std::exit(1);
      }
      std::fflush(stdout);
      const pid_t child = ::fork();
      if (child < 0) {
        print("cannot fork");
        std::exit(1);
      }
      if (child == 0) {
        ::close(ends[0]);
        run_slice(next, last, options, ends[1]);
        ::_exit(0);
      }
      ::close(ends[1]);
      children[child] = {next, last, ends[0]};
      next = last;
    }
    int status = 0;
    const pid_t ended = ::wait(&status);
    const auto child = children.find(ended);
    if (child == children.end()) continue;
    const auto report = read_all(child->second.report);
    ::close(child->second.report);
    std::size_t start = 0;
    for (auto end = report.find('\n'); end != std::string::npos; start = end + 1, end = report.find('\n', start)) {
      const auto line = report.substr(start, end - start);
      const auto seed = std::stoull(line);
      print(
          fmt::format("seed {} fails: {}\n  {}", seed, line.substr(line.find(' ') + 1), replay_command(seed, options)));
      failed.push_back(seed);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      print(fmt::format("one of the seeds {} to {} ends the process: run them singly", child->second.first,
                        child->second.last - 1));
      failed.push_back(child->second.first);
    }
    done += child->second.last - child->second.first;
    children.erase(child);
    if (done - announced >= 100 || done == count) {
      print(fmt::format("{} of {} seeds run, {} failed", done, count, failed.size()));
      announced = done;
    }
  }
  std::ranges::sort(failed);
  return failed;
}

}  // namespace sim
