// SPDX-License-Identifier: Apache-2.0
// Netlink objects of any content: parsed without reading beyond them. The input is one message's payload.
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel/link.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 16384) return 0;
  std::vector<std::uint8_t> message(NLMSG_LENGTH(0) + size);
  nlmsghdr header{};
  header.nlmsg_len = static_cast<std::uint32_t>(message.size());
  header.nlmsg_type = RTM_NEWLINK;
  std::memcpy(message.data(), &header, sizeof header);
  if (size != 0) std::memcpy(message.data() + NLMSG_LENGTH(0), data, size);
  const kernel::Object object(reinterpret_cast<const nlmsghdr*>(message.data()));
  if (const auto link = kernel::parse_link(object)) (void)link->is_ours();
  return 0;
}
