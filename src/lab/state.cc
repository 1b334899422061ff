// SPDX-License-Identifier: Apache-2.0
#include "lab/state.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/random.h"
#include "lab/signals.h"

namespace lab {
namespace {

using base::Code;
using base::fail;
using base::fail_errno;
using base::Result;
using base::UniqueFd;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr seconds kGoneDeadline{10};  // a namespace dies a moment after its last process

// Opens and locks a file; nothing if someone else holds it.
std::optional<UniqueFd> try_lock(const fs::path& file, int flags) {
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | flags, 0600));
  if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  return fd;
}

Result<UniqueFd> lock_root(const Places& places) {
  std::error_code error;
  fs::create_directories(places.root, error);
  if (error) return fail(Code::permission_denied, "cannot make {}: {}", places.root.string(), error.message());
  const auto file = places.root / "lock";
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | O_CREAT, 0600));
  if (!fd) return fail_errno(errno, "open " + file.string());
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR || stop_requested()) return fail_errno(errno, "lock " + file.string());
  }
  return fd;
}

std::string random_id() {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  base::SystemRandom random;
  std::string id;
  for (int i = 0; i < 6; ++i) id += kLetters[base::uniform(random, kLetters.size())];
  return id;
}

// What a state file says.
struct Record {
  pid_t owner = 0;
  bool kept = false;
  std::string purpose;
  Traces traces;
};

// An unreadable file says nothing; namespaces are found by their names all the same.
Record load(const fs::path& directory) {
  Record record;
  try {
    const json state = json::parse(read_file(directory / "state.json"));
    record.owner = state.at("owner").get<pid_t>();
    record.kept = state.at("kept").get<bool>();
    record.purpose = state.at("purpose").get<std::string>();
    record.traces.namespaces = state.at("namespaces").get<std::map<std::string, ino_t>>();
    for (const auto& one : state.at("processes")) {
      record.traces.processes.push_back(
          {one.at("name").get<std::string>(), one.at("pid").get<pid_t>(), one.at("start").get<std::uint64_t>()});
    }
  } catch (const json::exception&) {
    return {};
  }
  return record;
}

// The inode of a namespace's file, by any path to it; 0 for everything else.
ino_t namespace_inode(const fs::path& path) {
  struct stat own{};
  struct stat status{};
  if (::stat("/proc/self/ns/net", &own) != 0 || ::stat(path.c_str(), &status) != 0) return 0;
  return status.st_dev == own.st_dev ? status.st_ino : 0;
}

std::vector<pid_t> all_pids() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr == name.data() + name.size()) {
      pids.push_back(pid);
    }
  }
  return pids;
}

// Processes that live in one of the namespaces.
std::vector<pid_t> processes_in(const std::set<ino_t>& inodes) {
  std::vector<pid_t> inside;
  for (const pid_t pid : all_pids()) {
    if (inodes.contains(namespace_inode(fmt::format("/proc/{}/ns/net", pid)))) inside.push_back(pid);
  }
  return inside;
}

// Kills the processes, again and again until no new ones come.
void kill_processes_in(const std::set<ino_t>& inodes) {
  const Deadline deadline = in(seconds(5));
  while (true) {
    const auto inside = processes_in(inodes);
    for (const pid_t pid : inside) {
      if (pid != ::getpid()) ::kill(pid, SIGKILL);
    }
    if (inside.empty() || !pause_until(deadline, milliseconds(20))) return;
  }
}

std::vector<std::string> namespaces_of(const Places& places, const std::string& id) {
  std::vector<std::string> names;
  const std::string start = places.prefix + "-" + id + "-";
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(places.netns, error)) {
    if (std::string name = entry.path().filename(); name.starts_with(start)) names.push_back(std::move(name));
  }
  return names;
}

// Ids in the names of namespaces and of directories, whether or not both are there.
std::set<std::string> known_ids(const Places& places) {
  std::set<std::string> ids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(places.root, error)) {
    if (entry.is_directory(error)) ids.insert(entry.path().filename());
  }
  for (const auto& entry : fs::directory_iterator(places.netns, error)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(places.prefix + "-")) continue;
    name.erase(0, places.prefix.size() + 1);
    if (const auto dash = name.find('-'); dash != std::string::npos) ids.insert(name.substr(0, dash));
  }
  return ids;
}

bool still_runs(const Traces::Child& child) { return child.pid > 0 && start_time_of(child.pid) == child.start; }

// One line for each thing of a lab that is still there.
std::vector<std::string> leftovers(const Places& places, const std::string& id, const Traces& traces) {
  std::vector<std::string> left;
  const auto directory = places.root / id;
  std::error_code error;
  if (fs::exists(directory, error)) left.push_back("directory " + directory.string());
  for (const auto& name : namespaces_of(places, id)) left.push_back("namespace " + name);
  for (const auto& child : traces.processes) {
    if (still_runs(child)) left.push_back(fmt::format("process {} ({})", child.name, child.pid));
  }
  // A namespace lives on without its name while a process is in it or a descriptor names it; so do links and sockets.
  std::set<ino_t> inodes;
  for (const auto& [name, inode] : traces.namespaces) inodes.insert(inode);
  inodes.erase(0);  // of one that could not be read
  for (const pid_t pid : all_pids()) {
    const fs::path process = fmt::format("/proc/{}", pid);
    if (inodes.contains(namespace_inode(process / "ns/net"))) {
      left.push_back(fmt::format("process {} in a namespace of the lab", pid));
    }
    for (const auto& fd : fs::directory_iterator(process / "fd", error)) {
      if (inodes.contains(namespace_inode(fd.path()))) {
        left.push_back(fmt::format("descriptor {} on a namespace of the lab", fd.path().string()));
      }
    }
  }
  if (read_file("/proc/net/unix").find(directory.string() + "/") != std::string::npos) {
    left.push_back("a unix socket below " + directory.string());
  }
  return left;
}

// The same, once the kernel has had time to finish.
std::vector<std::string> lasting_leftovers(const Places& places, const std::string& id, const Traces& traces) {
  const Deadline deadline = in(kGoneDeadline);
  auto found = leftovers(places, id, traces);
  while (!found.empty() && pause_until(deadline, milliseconds(50))) found = leftovers(places, id, traces);
  return found;
}

// Removes what a lab made. Requires that its owner is dead or is us.
void remove_traces(const Places& places, const std::string& id) {
  const Record record = load(places.root / id);
  for (const auto& child : record.traces.processes) {
    if (still_runs(child)) ::kill(child.pid, SIGKILL);
  }
  const auto names = namespaces_of(places, id);
  std::set<ino_t> inodes;
  for (const auto& name : names) inodes.insert(namespace_inode(places.netns / name));
  inodes.erase(0);
  kill_processes_in(inodes);
  for (const auto& name : names) {
    // What cannot be removed is found by whoever looks for leftovers.
    static_cast<void>(run_command({"ip", "netns", "delete", name}, {}, in(seconds(10))));
  }
  std::error_code error;
  fs::remove_all(places.root / id, error);
}

}  // namespace

Result<LabState> LabState::create(Places places, const std::string& purpose) {
  auto root_lock = lock_root(places);
  if (!root_lock) return std::unexpected(root_lock.error());
  std::string id = random_id();
  while (known_ids(places).contains(id)) id = random_id();
  LabState state(std::move(places), std::move(id));
  state.purpose_ = purpose;
  std::error_code error;
  fs::create_directory(state.directory(), error);
  if (error) return fail(Code::internal, "cannot make {}: {}", state.directory().string(), error.message());
  auto lock = try_lock(state.directory() / "lock", O_CREAT);
  if (!lock) return fail(Code::internal, "cannot lock {}", state.directory().string());
  state.lock_ = std::move(*lock);
  if (auto saved = state.save(); !saved) return std::unexpected(saved.error());
  return state;
}

std::string LabState::netns_name(const std::string& name) const {
  return fmt::format("{}-{}-{}", places_.prefix, id_, name);
}

Result<void> LabState::add_namespace(const std::string& name) {
  if (auto made = output_of({"ip", "netns", "add", netns_name(name)}); !made) return std::unexpected(made.error());
  traces_.namespaces[name] = namespace_inode(netns_path(name));
  if (auto up = output_of({"ip", "link", "set", "dev", "lo", "up"}, netns_path(name)); !up) {
    return std::unexpected(up.error());
  }
  return save();
}

Result<void> LabState::remove_namespace(const std::string& name) {
  if (auto gone = output_of({"ip", "netns", "delete", netns_name(name)}); !gone) return std::unexpected(gone.error());
  traces_.namespaces.erase(name);
  return save();
}

Result<void> LabState::record(const Process& process) {
  traces_.processes.push_back({process.name(), process.pid(), process.start_time()});
  return save();
}

Result<void> LabState::set_kept() {
  kept_ = true;
  return save();
}

Result<void> LabState::save() const {
  json state{{"id", id_}, {"owner", ::getpid()}, {"purpose", purpose_}, {"kept", kept_}};
  state["namespaces"] = traces_.namespaces;
  state["processes"] = json::array();
  for (const auto& one : traces_.processes) {
    state["processes"].push_back({{"name", one.name}, {"pid", one.pid}, {"start", one.start}});
  }
  const auto fresh = directory() / "state.json.new";
  std::ofstream stream(fresh);
  stream << state.dump(2) << '\n';
  stream.close();
  std::error_code error;
  fs::rename(fresh, directory() / "state.json", error);
  if (!stream || error) return fail(Code::internal, "cannot write {}", fresh.string());
  return {};
}

std::vector<std::string> LabState::remove_all() {
  const IgnoreStop ignore;
  std::vector<std::string> left;
  if (auto root_lock = lock_root(places_); !root_lock) {
    left.push_back(root_lock.error().message());
  } else {
    remove_traces(places_, id_);
    lock_.reset();
  }
  const auto found = lasting_leftovers(places_, id_, traces_);
  left.insert(left.end(), found.begin(), found.end());
  return left;
}

std::vector<LabInfo> list_labs(const Places& places) {
  std::vector<LabInfo> labs;
  for (const auto& id : known_ids(places)) {
    const Record record = load(places.root / id);
    LabInfo info;
    info.id = id;
    std::error_code error;
    info.living = fs::exists(places.root / id / "lock", error) && !try_lock(places.root / id / "lock", 0);
    info.kept = record.kept;
    info.owner = record.owner;
    info.purpose = record.purpose;
    for (const auto& [name, inode] : record.traces.namespaces) {
      info.pods.push_back(name);
      info.namespaces.insert(inode);
    }
    labs.push_back(std::move(info));
  }
  return labs;
}

Result<std::vector<std::string>> clean_dead_labs(const Places& places) {
  auto root_lock = lock_root(places);
  if (!root_lock) return std::unexpected(root_lock.error());
  std::vector<std::string> cleaned;
  for (const auto& lab : list_labs(places)) {
    if (lab.living) continue;
    remove_traces(places, lab.id);
    cleaned.push_back(lab.id);
  }
  return cleaned;
}

Result<void> end_kept_lab(const Places& places, const std::string& id) {
  const auto labs = list_labs(places);
  const auto lab = std::ranges::find(labs, id, &LabInfo::id);
  if (lab == labs.end() || !lab->living) return fail(Code::not_found, "no living lab '{}'", id);
  if (!lab->kept) {
    return fail(Code::failed_precondition, "lab {} is at work (process {}); end it where it runs", id, lab->owner);
  }
  auto traces = load(places.root / id).traces;
  traces.processes.push_back({"keeper of the lab", lab->owner, start_time_of(lab->owner).value_or(0)});
  if (::kill(lab->owner, SIGTERM) != 0) return fail_errno(errno, fmt::format("signal process {}", lab->owner));
  const Deadline deadline = in(seconds(60));
  std::error_code error;
  while (fs::exists(places.root / id, error)) {
    if (!pause_until(deadline, milliseconds(50))) {
      return fail(Code::deadline_exceeded, "lab {} (process {}) did not end in time", id, lab->owner);
    }
  }
  if (const auto left = lasting_leftovers(places, id, traces); !left.empty()) {
    return fail(Code::internal, "lab {} left behind: {}", id, fmt::join(left, "; "));
  }
  return {};
}

}  // namespace lab
