// SPDX-License-Identifier: Apache-2.0
// Who called: what the kernel says of the process that connected to a unix socket. docs/identity.md says what can be
// believed and why.
//
//   uid, gid     SO_PEERCRED: as of connect(), in our user namespace
//   process      SO_PEERPIDFD (Linux 6.5): a descriptor of that very process, whose number nobody else gets while we
//   look executable   /proc/PID/exe, if that very file (device and inode) stands under this name in our own mount
//   namespace cgroup       /proc/PID/cgroup, seen from our cgroup namespace
//
// What is read by number is believed only if the process still lived, by its descriptor, after the reading. A kernel
// without SO_PEERPIDFD leaves only the numbers, which may belong to somebody else by now: then uid and gid are all we
// know. Cost: about ten system calls a connection.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "rpc/http2/byte_stream.h"

namespace identity {

struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;                          // in our PID namespace, for logs; 0: not known
  std::optional<std::string> executable;  // its path
  std::optional<std::string> cgroup;
  std::optional<std::string> pod_uid;
  base::UniqueFd process;  // pidfd; none on old kernels

  // False once the process has ended; true where there is no way to know.
  bool alive() const;
  std::string text() const;  // for logs
};

enum class PidFds { if_possible, never };

// Requires a connected unix socket. permission_denied if the process is gone.
base::Result<Caller> attest(int socket, PidFds pidfds = PidFds::if_possible);

// The UID of the Kubernetes pod that a cgroup belongs to, as written by the kubelet's cgroupfs and systemd drivers, at
// the places where only the kubelet writes: anybody may have a cgroup called kubepods further down.
std::optional<std::string> pod_uid_of(std::string_view cgroup);

// Attests every connection as it is accepted. Handlers find the caller through the link's peer, whose ID is a key of
// this table, and no SPIFFE ID. Unix sockets only. Outlives its streams.
class AttestingSecurity final : public rpc::http2::Security {
 public:
  explicit AttestingSecurity(PidFds pidfds = PidFds::if_possible) : pidfds_(pidfds) {}

  base::Task<base::Result<std::unique_ptr<rpc::http2::ByteStream>>> secure(
      std::unique_ptr<rpc::http2::ByteStream> socket, rpc::http2::Side side, base::TimePoint deadline) override;

  // Nobody once the connection is gone.
  std::shared_ptr<const Caller> caller(const rpc::Peer& peer) const;

 private:
  const PidFds pidfds_;
  std::uint64_t next_ = 1;
  std::map<std::string, std::weak_ptr<const Caller>, std::less<>> callers_;
};

}  // namespace identity
