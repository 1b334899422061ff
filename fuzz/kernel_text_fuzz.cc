// SPDX-License-Identifier: Apache-2.0
// What the kernel plane reads from others' text: interface names, marks in aliases, ports and protocols of policies.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kernel/link.h"
#include "kernel/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto name = kernel::check_interface_name(text)) {
    if (size == 0 || size > 15 || text.find_first_of("/ ") != std::string_view::npos) std::abort();
  } else if (name.error().message().size() > 300) {
    std::abort();
  }
  if (const auto mark = kernel::Mark::parse(text)) {
    if (mark->alias() != text) std::abort();
    if (mark->check() && kernel::Mark::parse(mark->alias()) != mark) std::abort();
  }
  if (const auto ports = kernel::PortRange::parse(text)) {
    if (ports->first == 0 || ports->first > ports->last) std::abort();
    if (kernel::PortRange::parse(ports->to_string()) != *ports) std::abort();
  }
  (void)kernel::parse_ip_protocol(text);
  return 0;
}
