// SPDX-License-Identifier: Apache-2.0
// A listening socket and the connections it accepted.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "rpc/http2/server_connection.h"
#include "rpc/transport.h"
#include "rpc/url.h"

namespace rpc::http2 {

base::Result<std::unique_ptr<Listener>> listen(base::EventLoop& loop, const Url& url, const Services& services,
                                               const Limits& limits, Security& security);

}  // namespace rpc::http2
