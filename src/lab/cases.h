// SPDX-License-Identifier: Apache-2.0
// The use cases, as data: what `patchbay lab list` shows and `patchbay lab run` checks. Names are NSM's, so are the
// addresses; adding a case of known kinds is one row in cases.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lab {

enum class Attachment : std::uint8_t { kernel, memif };
enum class Payload : std::uint8_t { ethernet, ip };
enum class Placement : std::uint8_t { as_asked, always_local };  // as_asked: two nodes, or one with --same-node
enum class Needs : std::uint8_t { any_plane, vector_plane };

struct AddressPair {
  std::string_view client;  // with prefix length, as the interface shows it
  std::string_view endpoint;
};

struct Case {
  std::string_view name;
  std::string_view summary;
  Attachment client;
  Attachment endpoint;
  Payload payload;
  Placement placement;
  Needs needs;
  std::string_view cidr_prefix;            // the endpoint's NSM_CIDR_PREFIX
  std::span<const AddressPair> addresses;  // what its first client must get
};

std::span<const Case> all_cases();

// Cases by name, "all" meaning those that this build can run. Errors: invalid_argument names the unknown one and all
// known; failed_precondition names one that needs what this build does not have.
base::Result<std::vector<const Case*>> select_cases(std::span<const std::string> names);

std::string service_name(const Case& one);  // the case's name in lower case, as in NSM's examples
std::string_view to_text(Payload payload);  // as NSM_PAYLOAD spells it
std::string_view to_text(Needs needs);

}  // namespace lab
