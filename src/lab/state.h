// SPDX-License-Identifier: Apache-2.0
// What a lab leaves traces of, and who may remove them. A lab is a directory ROOT/ID and network namespaces named
// PREFIX-ID-NAME. Its owner holds a lock on ROOT/ID/lock for as long as it lives; the kernel drops the lock when it
// dies, however it dies. So: locked means living, never touched by others; unlocked means dead, removed by whoever
// comes next. ROOT/lock orders the making and the cleaning of labs, so that a lab half made is never taken for a dead
// one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "lab/process.h"

namespace lab {

// Where labs live; tests take places of their own.
struct Places {
  std::filesystem::path root = "/run/patchbay-lab";
  std::filesystem::path netns = "/run/netns";
  std::string prefix = "pblab";
};

// One lab as others see it.
struct LabInfo {
  std::string id;
  bool living = false;
  bool kept = false;  // made by `up` or --keep, and its owner only waits to be told to end
  pid_t owner = 0;
  std::string purpose;            // the command that made it
  std::vector<std::string> pods;  // what `exec` can enter
  std::set<ino_t> namespaces;     // theirs
};

// What a lab made, as its state file tells it.
struct Traces {
  struct Child {
    std::string name;
    pid_t pid = 0;
    std::uint64_t start = 0;
  };
  std::map<std::string, ino_t> namespaces;  // inode: tells whether one lives on without its name
  std::vector<Child> processes;
};

class LabState {
 public:
  // A new lab with a random id, locked by us.
  static base::Result<LabState> create(Places places, const std::string& purpose);
  LabState(LabState&&) noexcept = default;
  LabState& operator=(LabState&&) noexcept = default;

  const std::string& id() const { return id_; }
  std::filesystem::path directory() const { return places_.root / id_; }
  std::string netns_name(const std::string& name) const;
  std::filesystem::path netns_path(const std::string& name) const { return places_.netns / netns_name(name); }

  base::Result<void> add_namespace(const std::string& name);
  base::Result<void> remove_namespace(const std::string& name);
  const std::map<std::string, ino_t>& namespaces() const { return traces_.namespaces; }

  // Remembers a process, so that whoever cleans up after us knows it.
  base::Result<void> record(const Process& process);
  base::Result<void> set_kept();  // also records the calling process as the owner

  // Removes everything: processes, namespaces, the directory; ends by looking for what is still there.
  // Returns one line for each thing left behind.
  std::vector<std::string> remove_all();

 private:
  LabState(Places places, std::string id) : places_(std::move(places)), id_(std::move(id)) {}
  base::Result<void> save() const;

  Places places_;
  std::string id_;
  std::string purpose_;
  bool kept_ = false;
  base::UniqueFd lock_;
  Traces traces_;
};

// Every lab on this machine, living or dead.
std::vector<LabInfo> list_labs(const Places& places);

// Removes what dead labs left; returns their ids. Living labs are not touched.
base::Result<std::vector<std::string>> clean_dead_labs(const Places& places);

// Asks the owner of a kept lab to end it and waits until everything of it is gone. The error names what was left
// behind.
base::Result<void> end_kept_lab(const Places& places, const std::string& id);

}  // namespace lab
