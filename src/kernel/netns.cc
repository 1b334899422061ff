// SPDX-License-Identifier: Apache-2.0
#include "kernel/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/net_namespace.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace kernel {
namespace {

std::unexpected<base::Error> fail_not_netns(std::string_view what) {
  return base::fail(base::Code::invalid_argument,
                    "{} is not a network namespace: give a file like /proc/PID/ns/net or /run/netns/NAME", what);
}

}  // namespace

NetnsThread::NetnsThread() : thread_([this] { loop(); }) { pthread_setname_np(thread_.native_handle(), "netns"); }

NetnsThread::~NetnsThread() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

base::Result<void> NetnsThread::run(int netns_fd, const std::function<base::Result<void>()>& job) {
  const std::scoped_lock turn(turn_);
  Job mine{.netns_fd = netns_fd, .function = &job, .result = {}};
  std::unique_lock lock(mutex_);
  job_ = &mine;
  changed_.notify_all();
  changed_.wait(lock, [&mine] { return mine.done; });
  return std::move(mine.result);
}

void NetnsThread::loop() {
  const base::UniqueFd home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || job_ != nullptr; });
    if (job_ == nullptr) return;
    Job& job = *std::exchange(job_, nullptr);
    lock.unlock();
    if (!home) {
      job.result = base::fail(base::Code::unavailable,
                              "/proc/thread-self/ns/net cannot be opened, so no other network namespace can be entered:"
                              " mount /proc");
    } else if (::setns(job.netns_fd, CLONE_NEWNET) != 0) {
      job.result = base::fail_errno(errno, "cannot enter the network namespace (this needs CAP_SYS_ADMIN)");
    } else {
      job.result = (*job.function)();
      ::setns(home.get(), CLONE_NEWNET);
    }
    lock.lock();
    job.done = true;
    changed_.notify_all();
  }
}

std::string Netns::name() const { return fmt::format("net:[{}]", key_.inode); }

base::Result<std::unique_ptr<RouteSocket>> Netns::open_socket() {
  std::unique_ptr<RouteSocket> socket;
  auto done = thread_->run(fd_.get(), [&socket]() -> base::Result<void> {
    auto opened = RouteSocket::open();
    if (!opened) return std::unexpected(opened.error());
    socket = std::move(*opened);
    return {};
  });
  if (!done) return std::unexpected(done.error().wrap(name()));
  return socket;
}

base::Result<std::string> Netns::read_sysctl(const std::string& path) {
  std::string value;
  auto done = thread_->run(fd_.get(), [&]() -> base::Result<void> {
    const base::UniqueFd file(::open(("/proc/sys/net/" + path).c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 256> text{};
    const auto size = file ? ::read(file.get(), text.data(), text.size()) : -1;
    if (size < 0) return base::fail_errno(errno, fmt::format("cannot read sysctl net/{}", path));
    value.assign(text.data(), static_cast<std::size_t>(size));
    while (!value.empty() && value.back() == '\n') value.pop_back();
    return {};
  });
  if (!done) return std::unexpected(done.error().wrap(name()));
  return value;
}

base::Result<void> Netns::write_sysctl(const std::string& path, std::string_view value) {
  auto done = thread_->run(fd_.get(), [&]() -> base::Result<void> {
    const base::UniqueFd file(::open(("/proc/sys/net/" + path).c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
      return base::fail_errno(errno, fmt::format("cannot set sysctl net/{} to \"{}\"", path, value));
    }
    return {};
  });
  if (!done) return std::unexpected(done.error().wrap(name()));
  return {};
}

base::Result<std::int32_t> Netns::id_of(const Netns& other) {
  const std::scoped_lock lock(mutex_);
  if (const auto known = ids_.find(other.key()); known != ids_.end()) return known->second;
  const auto what = fmt::format("{}: cannot number {}", name(), other.name());
  const auto fd = static_cast<std::uint32_t>(other.fd());
  std::array batch{
      std::move(Message(RTM_NEWNSID, 0, rtgenmsg{}).put(NETNSA_FD, fd).put(NETNSA_NSID, std::int32_t{-1})),
      std::move(Message(RTM_GETNSID, 0, rtgenmsg{}).put(NETNSA_FD, fd)),
  };
  auto replies = route().exchange(batch);
  if (!replies) return std::unexpected(replies.error().wrap(what));
  // EEXIST: somebody numbered it before.
  if (const auto& made = replies->at(0); made.error != 0 && made.error != EEXIST) return fail_reply(made, what);
  const auto& found = replies->at(1);
  if (found.error != 0) return fail_reply(found, what);
  for (const auto& object : found.objects) {
    const auto attributes = object.attributes<NETNSA_MAX>(sizeof(rtgenmsg));
    const auto id = u32_of(attributes[NETNSA_NSID]);
    if (id && static_cast<std::int32_t>(*id) >= 0) return ids_[other.key()] = static_cast<std::int32_t>(*id);
  }
  return base::fail(base::Code::internal, "{}: the kernel gave no number", what);
}

void Netns::allow_ping() {
  const std::scoped_lock lock(mutex_);
  if (std::exchange(ping_tried_, true)) return;
  if (auto done = write_sysctl("ipv4/ping_group_range", "0 2147483647"); !done) {
    base::log::warning("ping stays a privilege: {}", done.error().message());
  }
}

base::Result<std::shared_ptr<Netns>> Namespaces::from_descriptor(int fd) {
  const auto what = fmt::format("descriptor {}", fd);
  // Looked at before it is opened: a peer may send a device whose opening does something.
  struct statfs filesystem{};
  if (::fstatfs(fd, &filesystem) != 0) return base::fail_errno(errno, what);
  if (filesystem.f_type != NSFS_MAGIC) return fail_not_netns(what);
  // An O_PATH descriptor cannot be entered; opening it anew through /proc can.
  base::UniqueFd opened(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened) return base::fail_errno(errno, fmt::format("{} cannot be opened as a network namespace", what));
  return adopt(std::move(opened), what);
}

base::Result<std::shared_ptr<Netns>> Namespaces::from_path(const std::string& path) {
  base::UniqueFd opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!opened) return base::fail_errno(errno, fmt::format("network namespace {} cannot be opened", path));
  return adopt(std::move(opened), path);
}

base::Result<std::shared_ptr<Netns>> Namespaces::adopt(base::UniqueFd fd, std::string_view what) {
  struct statfs filesystem{};
  if (::fstatfs(fd.get(), &filesystem) != 0) return base::fail_errno(errno, what);
  if (filesystem.f_type != NSFS_MAGIC || ::ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return fail_not_netns(what);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, what);
  const NetnsKey key{.device = status.st_dev, .inode = status.st_ino};

  const std::scoped_lock lock(mutex_);
  if (auto known = known_[key].lock()) return known;
  std::unique_ptr<RouteSocket> socket;
  auto made = thread_->run(fd.get(), [&socket]() -> base::Result<void> {
    auto opened = RouteSocket::open();
    if (!opened) return std::unexpected(opened.error());
    socket = std::move(*opened);
    return {};
  });
  if (!made) {
    known_.erase(key);
    return std::unexpected(made.error().wrap(what));
  }
  auto netns = std::make_shared<Netns>(key, std::move(fd), std::move(socket), thread_);
  std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
  known_[key] = netns;
  return netns;
}

}  // namespace kernel
