// SPDX-License-Identifier: Apache-2.0
// Address parsers: any text is refused or survives being printed and parsed again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/address.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto address = wire::IpAddress::parse(text)) {
    if (wire::IpAddress::parse(address->to_string()) != *address) std::abort();
    if (const auto next = address->next(); next && next->previous() != *address) std::abort();
  }
  if (const auto prefix = wire::Prefix::parse(text)) {
    if (wire::Prefix::parse(prefix->to_string()) != *prefix) std::abort();
    if (!prefix->contains(prefix->first()) || !prefix->contains(prefix->last())) std::abort();
    if (!prefix->network().contains(*prefix) || prefix->last() < prefix->first()) std::abort();
  }
  if (const auto mac = wire::MacAddress::parse(text)) {
    if (wire::MacAddress::parse(mac->to_string()) != *mac) std::abort();
  }
  return 0;
}
