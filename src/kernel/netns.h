// SPDX-License-Identifier: Apache-2.0
// Network namespaces as values to work on without being in them: a netlink socket made inside once and kept, and
// sysctls written by the one thread that enters other namespaces. Reference: network_namespaces(7), setns(2).
#pragma once

#include <compare>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/netlink.h"

namespace kernel {

// What fstat says of the namespace's file: the pair in an inode:// URL.
struct NetnsKey {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  auto operator<=>(const NetnsKey&) const = default;
};

// Enters a namespace, runs one function, comes back; so it never keeps a namespace alive longer than a call. Only this
// thread ever calls setns. Thread-safe; callers wait for their turn.
class NetnsThread {
 public:
  NetnsThread();
  ~NetnsThread();
  NetnsThread(const NetnsThread&) = delete;
  NetnsThread& operator=(const NetnsThread&) = delete;

  base::Result<void> run(int netns_fd, const std::function<base::Result<void>()>& job);

 private:
  struct Job {
    int netns_fd;
    const std::function<base::Result<void>()>* function;
    base::Result<void> result;
    bool done = false;
  };

  void loop();

  std::mutex turn_;  // held by a caller for its whole call: one job at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  Job* job_ = nullptr;
  bool ending_ = false;
  std::thread thread_;
};

// One network namespace. Holding it keeps the namespace alive, as holding its file does: let go when the connection is
// closed. Thread-safe.
class Netns {
 public:
  const NetnsKey& key() const { return key_; }
  std::string name() const;  // net:[INODE], as the kernel shows it
  int fd() const { return fd_.get(); }

  RouteSocket& route() { return *route_; }
  // A further socket, for a thread whose requests must not wait behind those on route().
  base::Result<std::unique_ptr<RouteSocket>> open_socket();

  // The path is relative to /proc/sys/net, as in ipv6/conf/eth0/disable_ipv6. Requires no ".." in it.
  base::Result<std::string> read_sysctl(const std::string& path);
  base::Result<void> write_sysctl(const std::string& path, std::string_view value);

  // The number by which this namespace knows the other, given on first use; netlink names link namespaces by it.
  base::Result<std::int32_t> id_of(const Netns& other);

  // Lets every group use ICMP echo sockets, so that ping needs no privilege. Tried once per object; where /proc/sys is
  // read-only a warning is logged, for a connection works without.
  void allow_ping();

  // For Namespaces, which makes one object of a namespace.
  Netns(NetnsKey key, base::UniqueFd fd, std::unique_ptr<RouteSocket> route, std::shared_ptr<NetnsThread> thread)
      : key_(key), fd_(std::move(fd)), route_(std::move(route)), thread_(std::move(thread)) {}

 private:
  NetnsKey key_;
  base::UniqueFd fd_;
  std::unique_ptr<RouteSocket> route_;
  std::shared_ptr<NetnsThread> thread_;
  std::mutex mutex_;
  std::map<NetnsKey, std::int32_t> ids_;
  bool ping_tried_ = false;
};

// Finds or makes the one Netns object of a namespace. Keeps none alive. Thread-safe.
class Namespaces {
 public:
  Namespaces() : thread_(std::make_shared<NetnsThread>()) {}

  // Any open file of the namespace, O_PATH included (how descriptors arrive over SCM_RIGHTS); it stays the caller's.
  base::Result<std::shared_ptr<Netns>> from_descriptor(int fd);
  base::Result<std::shared_ptr<Netns>> from_path(const std::string& path);
  // The namespace this thread is in.
  base::Result<std::shared_ptr<Netns>> current() { return from_path("/proc/thread-self/ns/net"); }

 private:
  base::Result<std::shared_ptr<Netns>> adopt(base::UniqueFd fd, std::string_view what);

  std::shared_ptr<NetnsThread> thread_;
  std::mutex mutex_;
  std::map<NetnsKey, std::weak_ptr<Netns>> known_;
};

}  // namespace kernel
