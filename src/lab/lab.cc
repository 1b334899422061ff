// SPDX-License-Identifier: Apache-2.0
#include "lab/lab.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "lab/cases.h"
#include "lab/report.h"
#include "lab/run_case.h"
#include "lab/signals.h"

namespace lab {
namespace {

using base::Code;
using base::fail;
using base::Result;

constexpr int kSuccess = 0;
constexpr int kFailure = 1;
constexpr int kUsage = 2;

void complain(std::string_view sentence) { fmt::print(stderr, "patchbay lab: {}\n", sentence); }

int exit_code(const base::Error& error) {
  complain(error.message());
  return error.code() == Code::invalid_argument ? kUsage : kFailure;
}

Result<void> check_tools() {
  struct Tool {
    const char* name;
    const char* package;
  };
  constexpr std::array kTools{Tool{"ip", "iproute2"}, Tool{"ping", "iputils-ping"}, Tool{"iperf3", "iperf3"},
                              Tool{"nft", "nftables"}};
  const char* path = std::getenv("PATH");
  const std::string folders = fmt::format("{}:", path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path);
  for (const auto& tool : kTools) {
    bool found = false;
    for (std::size_t start = 0, end = 0; (end = folders.find(':', start)) != std::string::npos; start = end + 1) {
      found = found || ::access((folders.substr(start, end - start) + "/" + tool.name).c_str(), X_OK) == 0;
    }
    if (!found) {
      return fail(Code::failed_precondition, "the program '{}' is missing; install it with: apt-get install {}",
                  tool.name, tool.package);
    }
  }
  return {};
}

Result<void> check_root() {
  if (::geteuid() == 0) return {};
  return fail(Code::permission_denied, "the lab makes network namespaces, which takes root; run it with sudo");
}

Result<void> check_options(const Options& options) {
  if (options.plane == Plane::xdp) {
    return fail(Code::failed_precondition,
                "plane xdp needs the vector plane, which this build does not have; use --plane kernel");
  }
  constexpr unsigned kMostNodes = 64;
  if (options.nodes < 1 || options.nodes > kMostNodes) {
    return fail(Code::invalid_argument, "--nodes {} is out of range; 1 to {} can be built", options.nodes, kMostNodes);
  }
  if (options.nodes == 1 && !options.same_node) {
    return fail(Code::invalid_argument,
                "one node leaves the endpoint no node of its own; add --same-node or raise --nodes");
  }
  constexpr std::uint32_t kLeastMtu = 1280 + 74;  // so that IPv6 fits into the tunnel over IPv6
  constexpr std::uint32_t kMostMtu = 65535;
  if (options.underlay_mtu < kLeastMtu || options.underlay_mtu > kMostMtu) {
    return fail(Code::invalid_argument, "--underlay-mtu {} is out of range; {} to {} can be used", options.underlay_mtu,
                kLeastMtu, kMostMtu);
  }
  return {};
}

struct Plan {
  std::vector<CasePlan> cases;
  MeshOptions mesh;
  std::string purpose;
};

Result<Plan> make_plan(const Options& options, std::string_view command) {
  if (auto good = check_options(options); !good) return std::unexpected(good.error());
  auto chosen = select_cases(options.cases);
  if (!chosen) return std::unexpected(chosen.error());
  if (auto root = check_root(); !root) return std::unexpected(root.error());
  if (auto tools = check_tools(); !tools) return std::unexpected(tools.error());
  Plan plan{.cases = {},
            .mesh = {.nodes = options.nodes, .underlay = options.underlay, .underlay_mtu = options.underlay_mtu},
            .purpose = fmt::format("{} {}", command, fmt::join(options.cases, " "))};
  for (const auto* one : *chosen) {
    plan.cases.push_back({one, options.same_node ? WherePods::on_one_node : WherePods::on_two_nodes});
    if (one->payload == Payload::ip && !plan.cases.back().local()) plan.mesh.plaintext_ip = PlaintextIp::allowed;
  }
  return plan;
}

void announce(const Options& options, const Progress& progress) {
  if (options.plane == Plane::automatic) progress.step("plane auto: the kernel plane, the only one of this build");
  auto cleaned = clean_dead_labs(options.places);
  if (!cleaned) return;
  for (const auto& id : *cleaned) progress.step("removed what the dead lab {} had left", id);
}

// Runs the work in a child that stays when the work asks for it; returns the work's exit status as soon as it is known.
// The work gets a function to call when it has its status and only waits for the end from then on.
using Detach = std::function<void(int status)>;
int in_child_that_may_stay(const std::function<int(const Detach&)>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return exit_code(base::fail_errno(errno, "pipe2").error());
  base::UniqueFd from_child(ends[0]);
  base::UniqueFd to_parent(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return exit_code(base::fail_errno(errno, "fork").error());
  if (child == 0) {
    from_child.reset();
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(kFailure);
    const int status = work([&](int known) {
      ::prctl(PR_SET_PDEATHSIG, 0);
      ::setsid();
      std::fflush(nullptr);
      const base::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
      for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
      if (::write(to_parent.get(), &known, sizeof(known)) != sizeof(known)) ::_exit(kFailure);
      to_parent.reset();
    });
    std::fflush(nullptr);
    ::_exit(status);
  }
  to_parent.reset();
  catch_stop_signals();  // the child gets the terminal's Ctrl-C as well, and ends; we only wait for it
  int status = kFailure;
  ssize_t got = 0;
  do {
    got = ::read(from_child.get(), &status, sizeof(status));
    if (got < 0 && stop_requested()) ::kill(child, SIGTERM);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof(status)) return status;
  int ended = 0;
  while (::waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(ended) ? WEXITSTATUS(ended) : kFailure;
}

void print_report(const RunReport& report, const Options& options) {
  const std::string text = options.json ? to_json(report) : to_text(report);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void wait_until_stopped() {
  while (!stop_requested()) pause_until(in(seconds(3600)), seconds(3600));
}

std::size_t open_descriptors() {
  std::error_code error;
  const auto entries = std::filesystem::directory_iterator("/proc/self/fd", error);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

RunReport empty_report(const Mesh& mesh, const std::string& id) {
  const auto& options = mesh.options();
  return {.lab = id,
          .underlay = fmt::format("{}, MTU {}", options.underlay == UnderlayFamily::v4 ? "10.77.0.0/24" : "fd77::/64",
                                  options.underlay_mtu)};
}

void take_down(Mesh& mesh, const Progress& progress, std::size_t descriptors_before, RunReport& report) {
  progress.step("taking the lab down");
  auto left = mesh.take_down();
  if (const auto now = open_descriptors(); now > descriptors_before) {
    left.push_back(fmt::format("{} descriptors of the lab itself", now - descriptors_before));
  }
  report.checks.push_back({"nothing left behind", left.empty(),
                           left.empty() ? "no namespace, link, process, socket, descriptor or file"
                                        : fmt::format("{}", fmt::join(left, "; "))});
}

int run_plan(const Options& options, const Plan& plan, const Detach& detach) {
  catch_stop_signals();
  const Progress progress;
  announce(options, progress);
  const auto descriptors = open_descriptors();
  auto mesh = Mesh::build(plan.mesh, options.places, plan.purpose, progress);
  if (!mesh) return exit_code(mesh.error());
  RunReport report = empty_report(**mesh, (*mesh)->state().id());
  for (const auto& one : plan.cases) {
    if (stop_requested()) break;
    report.cases.push_back(run_case(**mesh, one, progress));
  }
  if (stop_requested()) {
    report.checks.push_back({"run to the end", false, "stopped by a signal"});
  } else if (options.keep) {
    if (auto kept = (*mesh)->state().set_kept(); !kept) return exit_code(kept.error());
    print_report(report, options);
    progress.step("lab {} is kept; end it with: patchbay lab down", report.lab);
    detach(report.passed() ? kSuccess : kFailure);
    wait_until_stopped();
    (*mesh)->take_down();
    return kSuccess;
  }
  take_down(**mesh, progress, descriptors, report);
  print_report(report, options);
  return report.passed() ? kSuccess : kFailure;
}

int up_plan(const Options& options, const Plan& plan, const Detach& detach) {
  catch_stop_signals();
  const Progress progress;
  announce(options, progress);
  auto mesh = Mesh::build(plan.mesh, options.places, plan.purpose, progress);
  if (!mesh) return exit_code(mesh.error());
  RunReport report = empty_report(**mesh, (*mesh)->state().id());
  report.cases.emplace_back();
  progress.step("plugging {}", plan.cases.front().one->name);
  auto plugged = plug_case(**mesh, plan.cases.front(), report.cases.front());
  auto kept = plugged ? (*mesh)->state().set_kept() : Result<void>();
  print_report(report, options);
  if (!plugged) return exit_code(plugged.error());
  if (!kept) return exit_code(kept.error());
  if (!options.json) {
    const std::string_view peer = plan.cases.front().one->addresses.front().endpoint;
    fmt::print("lab {} is up. Try: patchbay lab exec client -- ping -c 4 {}\nEnd it with: patchbay lab down\n",
               report.lab, peer.substr(0, peer.find('/')));
  }
  detach(kSuccess);
  wait_until_stopped();
  const IgnoreStop ignore;
  plugged->client.stop(seconds(20));
  plugged->endpoint.stop(seconds(20));
  (*mesh)->take_down();
  return kSuccess;
}

// The kept lab that is meant: the named one, or the only one.
Result<LabInfo> pick_lab(const Places& places, const std::string& id) {
  std::vector<LabInfo> kept;
  for (auto& lab : list_labs(places)) {
    if (lab.living && lab.kept && (id.empty() || lab.id == id)) kept.push_back(std::move(lab));
  }
  if (kept.size() == 1) return kept.front();
  if (kept.empty()) {
    return fail(Code::not_found, "{}; make one with: patchbay lab up",
                id.empty() ? "no lab is up" : fmt::format("no lab '{}' is up", id));
  }
  std::vector<std::string> ids;
  for (const auto& lab : kept) ids.push_back(lab.id);
  return fail(Code::invalid_argument, "several labs are up: {}; choose one with --lab", fmt::join(ids, ", "));
}

}  // namespace

int list(const Options& options) {
  const auto labs = list_labs(options.places);
  if (options.json) {
    nlohmann::ordered_json value{{"cases", nlohmann::ordered_json::array()}, {"labs", nlohmann::ordered_json::array()}};
    for (const auto& one : all_cases()) {
      value["cases"].push_back({{"name", one.name},
                                {"summary", one.summary},
                                {"payload", to_text(one.payload)},
                                {"cidr_prefix", one.cidr_prefix},
                                {"runnable", one.needs == Needs::any_plane},
                                {"needs", one.needs == Needs::any_plane ? "any plane" : "the vector plane"}});
    }
    for (const auto& lab : labs) {
      value["labs"].push_back(
          {{"id", lab.id}, {"living", lab.living}, {"kept", lab.kept}, {"pods", lab.pods}, {"purpose", lab.purpose}});
    }
    fmt::print("{}\n", value.dump(2));
    return kSuccess;
  }
  fmt::print("{:<28} {:<9} {:<31} {:<23} {}\n", "CASE", "PAYLOAD", "ADDRESSES FROM", "STATE", "WHAT");
  for (const auto& one : all_cases()) {
    fmt::print("{:<28} {:<9} {:<31} {:<23} {}\n", one.name, to_text(one.payload), one.cidr_prefix, to_text(one.needs),
               one.summary);
  }
  for (const auto& lab : labs) {
    fmt::print("\nlab {} ({}): {}, pods {}\n", lab.id,
               !lab.living ? "dead; the next run removes it"
               : lab.kept  ? "up"
                           : "at work",
               lab.purpose, fmt::join(lab.pods, " "));
  }
  return kSuccess;
}

int run(const Options& options) {
  auto plan = make_plan(options, "run");
  if (!plan) return exit_code(plan.error());
  if (!options.keep) return run_plan(options, *plan, [](int) {});
  return in_child_that_may_stay([&](const Detach& detach) { return run_plan(options, *plan, detach); });
}

int up(const Options& options) {
  Options chosen = options;
  if (chosen.cases.empty()) chosen.cases = {"Kernel2Ethernet2Kernel"};
  auto plan = make_plan(chosen, "up");
  if (!plan) return exit_code(plan.error());
  if (plan->cases.size() != 1) {
    return exit_code({Code::invalid_argument, "up plugs one case; `patchbay lab run` takes several"});
  }
  return in_child_that_may_stay([&](const Detach& detach) { return up_plan(chosen, *plan, detach); });
}

int exec(const Places& places, const std::string& lab, const std::string& pod,
         const std::vector<std::string>& command) {
  if (auto root = check_root(); !root) return exit_code(root.error());
  auto info = pick_lab(places, lab);
  if (!info) return exit_code(info.error());
  if (std::ranges::find(info->pods, pod) == info->pods.end()) {
    return exit_code({Code::invalid_argument,
                      fmt::format("lab {} has no pod '{}'; it has: {}", info->id, pod, fmt::join(info->pods, ", "))});
  }
  const auto file = places.netns / fmt::format("{}-{}-{}", places.prefix, info->id, pod);
  const base::UniqueFd netns(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns || ::setns(netns.get(), CLONE_NEWNET) != 0) {
    return exit_code(base::fail_errno(errno, "enter " + file.string()).error());
  }
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execvp(arguments.front(), arguments.data());
  return exit_code(base::fail_errno(errno, "run " + words.front()).error());
}

int down(const Places& places, const std::string& lab, bool all) {
  catch_stop_signals();
  if (auto root = check_root(); !root) return exit_code(root.error());
  auto cleaned = clean_dead_labs(places);
  if (!cleaned) return exit_code(cleaned.error());
  for (const auto& id : *cleaned) fmt::print("removed what the dead lab {} had left\n", id);
  std::vector<std::string> ids;
  if (all) {
    for (const auto& info : list_labs(places)) {
      if (info.living && info.kept) ids.push_back(info.id);
    }
  } else {
    auto info = pick_lab(places, lab);
    const bool nothing_up = !info && info.error().code() == Code::not_found && lab.empty();
    if (!info && !nothing_up) return exit_code(info.error());
    if (info) ids.push_back(info->id);
  }
  for (const auto& id : ids) {
    if (auto ended = end_kept_lab(places, id); !ended) return exit_code(ended.error());
    fmt::print("lab {} is down\n", id);
  }
  if (ids.empty() && cleaned->empty()) fmt::print("no lab is up, and nothing is left of any\n");
  return kSuccess;
}

}  // namespace lab
