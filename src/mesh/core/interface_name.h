// SPDX-License-Identifier: Apache-2.0
// Names for interfaces whose request names none.
#pragma once

#include <string>
#include <string_view>

#include "base/random.h"

namespace mesh {

// The service's name cut to 10 bytes, '-', and letters and digits up to the 15 bytes that Linux allows. What Linux does
// not take in a name becomes '-'.
std::string generated_interface_name(std::string_view service, base::Random& random);

}  // namespace mesh
