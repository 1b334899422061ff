// SPDX-License-Identifier: Apache-2.0
// base64url without padding (RFC 4648 section 5), as JWTs have it. Pure functions, safe on any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace base {

std::string base64url_encode(std::string_view bytes);
// Nothing if the text has other letters, an impossible length, or spare bits that are not zero: one text a value.
std::optional<std::string> base64url_decode(std::string_view text);

}  // namespace base
