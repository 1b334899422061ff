// SPDX-License-Identifier: Apache-2.0
// Whether a kernel connection's packets cross: ICMP and ICMPv6 echoes from the workload's namespace, without privileges
// (ping sockets, ip(7) IPPROTO_ICMP; the kernel fills in identifier and checksum). What is pinged is every pair of a
// source and a destination address of one family; each pair gets four echoes, spread over the timeout, and must answer
// one. Cost: one socket a source address and check; a healthy connection is found so after one round trip.
#pragma once

#include "base/event_loop.h"
#include "base/worker_thread.h"
#include "mesh/core/liveness.h"
#include "rpc/descriptor.h"

namespace apps {

class KernelLiveness final : public mesh::Liveness {
 public:
  // Opens its sockets in that namespace, on a thread of its own that moves there; the caller's threads stay where they
  // are. The loop must outlive this; so must this its tasks.
  KernelLiveness(base::EventLoop& loop, rpc::Descriptor network_namespace);

  // Other mechanisms than KERNEL, and connections without a pair of addresses, are alive. A source address that is no
  // longer in the namespace is dead. permission_denied: net.ipv4.ping_group_range forbids this process's group.
  base::Task<base::Result<bool>> alive(const mesh::Connection& connection, base::Duration timeout,
                                       base::StopToken stop) override;

 private:
  base::EventLoop& loop_;
  rpc::Descriptor namespace_;
  base::WorkerThread thread_;
  std::uint64_t checks_ = 0;
};

}  // namespace apps
