// SPDX-License-Identifier: Apache-2.0
#include "kernel/testing.h"

#include <linux/veth.h>
#include <net/if.h>

namespace kernel::testing {

void KernelTest::make_foreign_veth(Netns& a, const std::string& name_a, Netns& b, const std::string& name_b,
                                   const std::vector<wire::Prefix>& addresses_a,
                                   const std::vector<wire::Prefix>& addresses_b) {
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  message.put_text(IFLA_IFNAME, name_a).nest(IFLA_LINKINFO, [&](Message& information) {
    information.put_text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, [&](Message& data) {
      data.nest(VETH_INFO_PEER, [&](Message& peer) {
        peer.put_header(ifinfomsg{})
            .put_text(IFLA_IFNAME, name_b)
            .put(IFLA_NET_NS_FD, static_cast<std::uint32_t>(b.fd()));
      });
    });
  });
  ASSERT_DONE(a.route().request(std::move(message), "veth"));
  ASSERT_DONE(apply(a, link_of(a, name_a), InterfaceConfig{.addresses = addresses_a}, LinkState::fresh));
  ASSERT_DONE(apply(b, link_of(b, name_b), InterfaceConfig{.addresses = addresses_b}, LinkState::fresh));
}

}  // namespace kernel::testing
