// SPDX-License-Identifier: Apache-2.0
// Trust as nodes and their CA pass it on.
#pragma once

#include "identity.pb.h"
#include "identity/server/authority.h"

namespace identity {

patchbay::identity::Trust to_message(const Trust& trust);
// invalid_argument unless there are roots and every key is one.
base::Result<std::shared_ptr<const Trust>> from_message(const patchbay::identity::Trust& message);

}  // namespace identity
