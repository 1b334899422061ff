// SPDX-License-Identifier: Apache-2.0
// Whether a file that came over a connection is what the message says it is. The sender's word is not enough: what is
// opened or entered later with our privileges must be known to be harmless to open.
//
// A descriptor without a file, the simulator's, passes: it cannot come over a socket.
#pragma once

#include "base/result.h"
#include "rpc/descriptor.h"

namespace mesh {

// invalid_argument unless it is a network namespace.
base::Result<void> check_network_namespace(const rpc::Descriptor& descriptor);
// invalid_argument unless it is a socket.
base::Result<void> check_socket(const rpc::Descriptor& descriptor);

}  // namespace mesh
