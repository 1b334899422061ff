// SPDX-License-Identifier: Apache-2.0
// Wires made of Linux devices. Netlink blocks, so it runs on a worker thread, one wire after the other (the kernel has
// one lock for network configuration anyway); links of closed wires are deleted in batches, off every request's path.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/worker_thread.h"
#include "forwarder/plane.h"
#include "kernel/graveyard.h"
#include "kernel/netns.h"
#include "kernel/wiring.h"

namespace forwarder {

class KernelPlane final : public Plane {
 public:
  // owner: the forwarder's name, part of every mark. Tunnels run in the namespace this process is in.
  KernelPlane(base::EventLoop& loop, std::string owner);

  base::Task<base::Result<void>> plug(WireSpec wire) override;
  base::Task<base::Result<void>> unplug(std::string id) override;
  base::Task<base::Result<std::vector<std::string>>> plugged() override;
  base::Task<base::Result<EndCounters>> counters(std::string id, Side side) override;

 private:
  // What was plugged: where the wire's interfaces are. Touched on the worker thread only.
  struct Plugged {
    std::vector<kernel::Place> places;  // client's first; a tunnel's side has none
    bool client_is_kernel = false;
    bool endpoint_is_kernel = false;
  };

  bool moved(const WireSpec& wire) const;
  base::Result<void> plug_now(const WireSpec& wire);
  base::Result<void> plug_veth(const WireSpec& wire, const KernelEnd& client, const KernelEnd& endpoint);
  base::Result<void> plug_vxlan(const WireSpec& wire, const KernelEnd& workload, Side side, const VxlanEnd& tunnel);
  base::Result<void> unplug_now(const std::string& id);
  base::Result<std::vector<std::string>> plugged_now();
  base::Result<EndCounters> counters_now(const std::string& id, Side side);
  base::Result<kernel::Place> place(const KernelEnd& end);

  const std::string owner_;
  kernel::Namespaces namespaces_;
  kernel::Graveyard graveyard_;
  kernel::Wiring wiring_{graveyard_};
  std::map<std::string, Plugged> wires_;
  base::WorkerThread worker_;  // last: joined before the rest goes
};

// The underlay: the address given, or else the first global one of the device that holds the default route.
base::Result<Underlay> find_underlay(const std::string& tunnel_ip);

}  // namespace forwarder
