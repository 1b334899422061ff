// SPDX-License-Identifier: Apache-2.0
// Selector templates: text without an action stands for itself, and expansion is a function of text and labels alone.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mesh/core/match.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const mesh::Labels client{{"app", "web"}, {"nodeName", "node-1"}, {"a-b", "{{.app}}"}};
  const auto expanded = mesh::expand_template(text, client);
  if (!text.contains("{{") && expanded != text) std::abort();
  if (expanded != mesh::expand_template(text, client)) std::abort();
  if (!mesh::fits({{"k", expanded}}, {{"k", std::string(text)}}, client)) std::abort();
  return 0;
}
