// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/interface_name.h"

#include <cctype>

namespace mesh {

namespace {

constexpr std::size_t kMaxName = 15;  // IFNAMSIZ less its terminator
constexpr std::size_t kMaxService = 10;

}  // namespace

std::string generated_interface_name(std::string_view service, base::Random& random) {
  std::string name(service.substr(0, kMaxService));
  for (char& letter : name) {
    const auto byte = static_cast<unsigned char>(letter);
    if (letter == '/' || letter == ':' || letter == '%' || std::isgraph(byte) == 0) letter = '-';
  }
  name.push_back('-');
  return name + base::base62(random, kMaxName - name.size());
}

}  // namespace mesh
