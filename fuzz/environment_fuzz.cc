// SPDX-License-Identifier: Apache-2.0
// The environment's value grammars: the first byte chooses one, the rest is the value. What is read must be readable
// again when printed.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/environment.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void try_duration(std::string_view text) {
  if (const auto duration = base::parse_duration(text)) {
    require(base::parse_duration(base::format_duration(*duration)) == *duration);
  }
}

void try_signed(std::string_view text) {
  const auto wide = base::parse_signed(text, INT64_MIN, INT64_MAX);
  const auto narrow = base::parse_signed(text, -128, 127);
  if (wide) require(base::parse_signed(std::to_string(*wide), INT64_MIN, INT64_MAX) == *wide);
  require(narrow.has_value() == (wide && *wide >= -128 && *wide <= 127));
}

void try_list(std::string_view text) {
  std::string joined;
  for (const auto& element : base::parse_list(text)) joined += (joined.empty() ? "" : ",") + element;
  require(joined.size() <= text.size());
}

void try_options(std::string_view text) {
  base::TextMap map;
  std::string json;
  std::uint16_t port = 0;
  const std::vector<base::Option> options{
      base::option("MAP", &map, "", "a map"),
      base::json_option("JSON", &json, "", "JSON"),
      base::option("PORT", &port, "", "a port"),
  };
  for (const auto& one : options) {
    const auto done = base::read_environment({&one, 1}, [text](const std::string&) { return std::string(text); });
    if (!done) require(done.error().message().find('\n') == std::string::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      try_duration(text);
      break;
    case 1:
      try_signed(text);
      break;
    case 2:
      try_list(text);
      break;
    default:
      try_options(text);
      break;
  }
  return 0;
}
