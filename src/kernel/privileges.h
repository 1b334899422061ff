// SPDX-License-Identifier: Apache-2.0
// What the kernel plane needs to be allowed, checked at start rather than at the first connection.
#pragma once

#include "base/result.h"

namespace kernel {

// Of the calling thread: CAP_NET_ADMIN for links and routes, CAP_SYS_ADMIN for entering network namespaces.
base::Result<void> check_privileges();

}  // namespace kernel
