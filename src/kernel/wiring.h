// SPDX-License-Identifier: Apache-2.0
// Makes the links of connections: a veth pair with its ends put straight into two namespaces, or a VXLAN device made in
// the workload's namespace whose tunnel runs in the forwarder's. Moving a link later would cost 20 ms; made in place a
// pair takes 0.3 ms. Blocking: call it on a worker thread.
//
//   workload A        workload B            workload             forwarder
//   [ nsm-1 ]==veth==[ nse-1 ]              [ nsm-1 ]--vxlan--> ( UDP socket ) --> uplink
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "kernel/graveyard.h"
#include "kernel/link.h"
#include "kernel/netns.h"
#include "wire/address.h"

namespace kernel {

constexpr std::uint32_t kMaxMtu = 65535;

// Where an interface shall be and what it shall be called there.
struct Place {
  std::shared_ptr<Netns> netns;
  std::string name;
};

struct VethRequest {
  Mark mark;
  Place a;
  Place b;
  std::uint32_t mtu = 0;  // 0: the kernel's 1500
};

struct VethPair {
  Link a;
  Link b;
  bool made = false;  // false: it was there already and was kept
};

struct VxlanRequest {
  Mark mark;
  Place place;
  std::shared_ptr<Netns> underlay;  // where the tunnel's UDP socket lives
  std::uint32_t vni = 0;            // 1 to 2^24 - 1
  wire::IpAddress local;
  wire::IpAddress remote;     // of local's family
  std::uint16_t port = 4789;  // both for sending to and for receiving on
  std::uint32_t mtu = 0;      // 0: the kernel's 1500
};

struct VxlanLink {
  Link link;
  bool made = false;
};

// Every function may be repeated: what is there already and matches is kept with all its traffic; a link of Patchbay's
// that bears the name but does not match is retired and replaced; anybody else's is left alone and named in the
// refusal.
class Wiring {
 public:
  explicit Wiring(Graveyard& graveyard) : graveyard_(graveyard) {}  // outlives this

  // A new pair is up and passes packets when this returns; a VXLAN device comes up with its configuration (apply).
  base::Result<VethPair> ensure_veth(const VethRequest& request);
  base::Result<VxlanLink> ensure_vxlan(const VxlanRequest& request);

  // Retires the connection's interfaces in these places, with the policy rules that lead to them: both ends of a pair,
  // or the one of a VXLAN device. What is gone, or belongs to another connection by now, is a success.
  base::Result<void> remove(const Mark& mark, const std::vector<Place>& places);

 private:
  base::Result<void> make_room(const Place& place);
  base::Result<void> label(Netns& netns, const Link& link, const Mark& mark);
  base::Result<void> bring_up(const VethRequest& request, const VethPair& pair);

  Graveyard& graveyard_;
};

}  // namespace kernel
