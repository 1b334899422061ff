// SPDX-License-Identifier: Apache-2.0
// Bracket groups, the form of NSM_CIDR_PREFIX and NSM_AWARENESS_GROUPS: [a,b],[c],d is three groups, the last of one
// item without brackets. Blanks do not count.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/environment.h"
#include "base/result.h"
#include "wire/address.h"

namespace mesh {

using TextGroups = std::vector<std::vector<std::string>>;

// Requires at least one item in every group; blank text has no groups.
base::Result<TextGroups> parse_groups(std::string_view text);

// One group is one pool of addresses; its further prefixes are used when the first are full. Host bits are cleared.
using CidrGroups = std::vector<std::vector<wire::Prefix>>;

// Requires at least one group.
base::Result<CidrGroups> parse_cidr_groups(std::string_view text);

// An environment variable that holds such groups.
base::Option cidr_groups_option(std::string name, CidrGroups* field, std::string fallback, std::string help);

}  // namespace mesh
