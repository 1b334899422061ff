// SPDX-License-Identifier: Apache-2.0
#include "lab/process.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include "lab/signals.h"

extern char** environ;

namespace lab {
namespace {

using base::Code;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;

constexpr milliseconds kPollSlice{100};  // how late a stop request may be noticed

// What a user's shell may carry for real deployments must not reach the lab's processes.
constexpr std::array<std::string_view, 8> kClearedPrefixes{
    "NSM_", "PATCHBAY_", "POD_NAME=", "NODE_NAME=", "CLUSTER_NAME=", "SPIFFE_", "TELEMETRY=", "FORWARDING_PLANE="};

std::vector<std::string> environment_for(const ProcessSpec& spec) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const bool cleared = std::ranges::any_of(kClearedPrefixes, [&](auto prefix) { return text.starts_with(prefix); });
    const bool replaced = spec.environment.contains(std::string(text.substr(0, text.find('='))));
    if (!cleared && !replaced) result.emplace_back(text);
  }
  for (const auto& [name, value] : spec.environment) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (auto& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

Result<UniqueFd> open_fd(const std::filesystem::path& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
  if (!fd) return fail_errno(errno, fmt::format("open {}", path.string()));
  return fd;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe2");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// What the child needs between fork and exec, made before the fork: there it may only make system calls.
struct Launch {
  char** arguments = nullptr;
  char** environment = nullptr;
  bool self = false;
  int netns = -1;
  int in = -1;
  int out = -1;
  int err = -1;
  bool new_session = true;
  pid_t parent = 0;
};

[[noreturn]] void become(const Launch& launch) {
  const auto die = [](const char* what) {
    const char* reason = ::strerrordesc_np(errno);
    if (::write(STDERR_FILENO, what, std::strlen(what)) < 0 || ::write(STDERR_FILENO, ": ", 2) < 0 ||
        ::write(STDERR_FILENO, reason, std::strlen(reason)) < 0 || ::write(STDERR_FILENO, "\n", 1) < 0) {
      _exit(126);
    }
    _exit(127);
  };
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launch.parent) _exit(126);  // the lab died in between
  if (launch.new_session) ::setsid();
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(launch.in, STDIN_FILENO);
  ::dup2(launch.out, STDOUT_FILENO);
  ::dup2(launch.err, STDERR_FILENO);
  if (launch.netns >= 0 && ::setns(launch.netns, CLONE_NEWNET) != 0) die("setns");
  if (launch.self) {
    ::execve("/proc/self/exe", launch.arguments, launch.environment);
  } else {
    ::execvpe(launch.arguments[0], launch.arguments, launch.environment);
  }
  die(launch.arguments[0]);
  _exit(127);
}

Result<pid_t> launch(const ProcessSpec& spec, int out, int err) {
  auto null = open_fd("/dev/null", O_RDONLY);
  if (!null) return std::unexpected(null.error());
  UniqueFd netns;
  if (!spec.netns.empty()) {
    auto opened = open_fd(spec.netns, O_RDONLY);
    if (!opened) return std::unexpected(opened.error().wrap(spec.name));
    netns = std::move(*opened);
  }
  auto arguments = spec.command;
  auto environment = environment_for(spec);
  const auto argument_pointers = pointers(arguments);
  const auto environment_pointers = pointers(environment);
  const Launch plan{.arguments = const_cast<char**>(argument_pointers.data()),
                    .environment = const_cast<char**>(environment_pointers.data()),
                    .self = spec.command.front() == "patchbay",
                    .netns = netns.get(),
                    .in = null->get(),
                    .out = out,
                    .err = err,
                    .new_session = spec.new_session,
                    .parent = ::getpid()};
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno(errno, "fork for " + spec.name);
  if (pid == 0) become(plan);
  return pid;
}

int exit_status(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

// Waits for any of the descriptors for at most a slice, so that a stop request is noticed.
void poll_slice(std::vector<pollfd>& descriptors, Deadline deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  const auto slice = std::clamp(left, milliseconds(0), kPollSlice);
  ::poll(descriptors.data(), descriptors.size(), static_cast<int>(slice.count()));
}

// Appends what can be read now; false at the end.
bool drain(int fd, std::string& into) {
  std::array<char, 4096> buffer{};
  const auto got = ::read(fd, buffer.data(), buffer.size());
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  into.append(buffer.data(), static_cast<std::size_t>(got));
  return got > 0;
}

}  // namespace

bool pause_until(Deadline deadline, milliseconds step) {
  const auto until = std::min(deadline, in(step));
  while (!stop_requested() && Clock::now() < until) {
    std::this_thread::sleep_for(std::min<Clock::duration>(until - Clock::now(), kPollSlice));
  }
  return !stop_requested() && Clock::now() < deadline;
}

std::optional<std::uint64_t> start_time_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto name_end = text.rfind(')');  // the name may hold blanks and parentheses
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) {
    if (!(fields >> field)) return std::nullopt;
    if (number == 3 && (field == "Z" || field == "X")) return std::nullopt;  // ended, only not yet reaped
  }
  return std::strtoull(field.c_str(), nullptr, 10);
}

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::string tail(const std::filesystem::path& file, std::size_t lines) {
  std::string text = read_file(file);
  while (text.ends_with('\n')) text.pop_back();
  std::size_t start = text.size();
  for (std::size_t line = 0; line < lines && start != std::string::npos && start > 0; ++line) {
    start = text.rfind('\n', start - 1);
  }
  return start == std::string::npos || start == 0 ? text : text.substr(start + 1);
}

Result<Process> Process::start(const ProcessSpec& spec) {
  auto log = open_fd(spec.log.empty() ? std::filesystem::path("/dev/null") : spec.log,
                     O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  if (!log) return std::unexpected(log.error().wrap(spec.name));
  Pipe output;
  if (spec.read_output) {
    auto made = make_pipe();
    if (!made) return std::unexpected(made.error());
    output = std::move(*made);
  }
  const int out = spec.same_streams ? STDOUT_FILENO : log->get();
  const int err = spec.same_streams ? STDERR_FILENO : log->get();
  auto pid = launch(spec, spec.read_output ? output.write.get() : out, err);
  if (!pid) return std::unexpected(pid.error());

  Process process;
  process.name_ = spec.name;
  process.log_ = spec.log;
  process.pid_ = *pid;
  process.start_time_ = start_time_of(*pid).value_or(0);
  process.pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
  if (!process.pidfd_) return fail_errno(errno, "pidfd_open for " + spec.name);
  process.output_ = std::move(output.read);
  if (process.output_) ::fcntl(process.output_.get(), F_SETFL, O_NONBLOCK);
  return process;
}

Process::~Process() {
  if (pid_ > 0 && !status_) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

Process::Process(Process&& other) noexcept
    : name_(std::move(other.name_)),
      log_(std::move(other.log_)),
      pid_(std::exchange(other.pid_, -1)),
      start_time_(other.start_time_),
      pidfd_(std::move(other.pidfd_)),
      output_(std::move(other.output_)),
      unread_(std::move(other.unread_)),
      status_(other.status_) {}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(log_, other.log_);
  std::swap(pid_, other.pid_);
  std::swap(start_time_, other.start_time_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(output_, other.output_);
  std::swap(unread_, other.unread_);
  std::swap(status_, other.status_);
  return *this;
}

bool Process::reap() {
  if (status_) return true;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
  status_ = status;
  return true;
}

bool Process::running() { return !reap(); }

std::string Process::state() {
  if (!reap()) return "running";
  if (WIFSIGNALED(*status_)) return fmt::format("killed by signal {}", WTERMSIG(*status_));
  return fmt::format("exit status {}", WEXITSTATUS(*status_));
}

Result<std::string> Process::next_line(Deadline deadline) {
  while (true) {
    if (const auto end = unread_.find('\n'); end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    if (!output_) return fail(Code::unavailable, "{} closed its output ({})", name_, state());
    if (stop_requested()) return fail(Code::cancelled, "stopped");
    if (Clock::now() >= deadline) return fail(Code::deadline_exceeded, "{} said nothing in time", name_);
    std::vector<pollfd> descriptors{{.fd = output_.get(), .events = POLLIN, .revents = 0}};
    poll_slice(descriptors, deadline);
    if (descriptors[0].revents != 0 && !drain(output_.get(), unread_)) output_.reset();
  }
}

Result<int> Process::wait(Deadline deadline) {
  while (!reap()) {
    if (stop_requested()) return fail(Code::cancelled, "stopped");
    if (Clock::now() >= deadline) return fail(Code::deadline_exceeded, "{} did not end in time", name_);
    std::vector<pollfd> descriptors{{.fd = pidfd_.get(), .events = POLLIN, .revents = 0}};
    if (output_) descriptors.push_back({.fd = output_.get(), .events = POLLIN, .revents = 0});
    poll_slice(descriptors, deadline);
    // Its output is read on, or a process that talks a lot would never end.
    if (output_ && descriptors[1].revents != 0 && !drain(output_.get(), unread_)) output_.reset();
  }
  return exit_status(*status_);
}

Ending Process::stop(milliseconds grace) {
  if (reap()) return Ending::had_ended;
  const IgnoreStop ignore;
  ::kill(pid_, SIGTERM);
  if (wait(in(grace))) return Ending::on_request;
  ::kill(pid_, SIGKILL);
  int status = 0;
  if (::waitpid(pid_, &status, 0) == pid_) status_ = status;
  return Ending::by_force;
}

Result<CommandOutput> run_command(const std::vector<std::string>& command, const std::filesystem::path& netns,
                                  Deadline deadline) {
  auto out = make_pipe();
  auto err = make_pipe();
  if (!out || !err) return std::unexpected((out ? err : out).error());
  ProcessSpec spec{.name = command.front(), .command = command, .environment = {{"LC_ALL", "C"}}, .netns = netns};
  auto pid = launch(spec, out->write.get(), err->write.get());
  if (!pid) return std::unexpected(pid.error());
  out->write.reset();
  err->write.reset();

  CommandOutput result;
  bool out_open = true;
  bool err_open = true;
  std::optional<base::Error> failure;
  while (out_open || err_open) {
    if (stop_requested()) failure.emplace(Code::cancelled, "stopped");
    if (Clock::now() >= deadline) {
      failure.emplace(Code::deadline_exceeded, fmt::format("'{}' did not end in time", fmt::join(command, " ")));
    }
    if (failure) break;
    std::vector<pollfd> descriptors{{.fd = out_open ? out->read.get() : -1, .events = POLLIN, .revents = 0},
                                    {.fd = err_open ? err->read.get() : -1, .events = POLLIN, .revents = 0}};
    poll_slice(descriptors, deadline);
    if (descriptors[0].revents != 0) out_open = drain(out->read.get(), result.out);
    if (descriptors[1].revents != 0) err_open = drain(err->read.get(), result.err);
  }
  if (failure) ::kill(*pid, SIGKILL);
  int status = 0;
  ::waitpid(*pid, &status, 0);
  if (failure) return std::unexpected(*failure);
  result.status = exit_status(status);
  return result;
}

Result<std::string> output_of(const std::vector<std::string>& command, const std::filesystem::path& netns,
                              Deadline deadline) {
  auto done = run_command(command, netns, deadline);
  if (!done) return std::unexpected(done.error());
  if (done->status != 0) {
    std::string said = done->err.empty() ? done->out : done->err;
    while (said.ends_with('\n')) said.pop_back();
    return fail(Code::internal, "'{}' failed with exit status {}: {}", fmt::join(command, " "), done->status, said);
  }
  return std::move(done->out);
}

}  // namespace lab
