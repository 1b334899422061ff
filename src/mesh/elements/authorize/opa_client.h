// SPDX-License-Identifier: Apache-2.0
// Asks an Open Policy Agent over its Data API: POST {"input": …}, answered {"result": true} or false. One question at a
// time over one kept connection, on a thread of its own; two seconds from the moment of asking, the wait for earlier
// questions included. Proxies of the environment are not used.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/worker_thread.h"
#include "mesh/elements/authorize/opa.h"

namespace mesh {

class OpaClient final : public Opa {
 public:
  static constexpr base::Duration kPatience = std::chrono::seconds(2);

  // url: of the decision, such as http://127.0.0.1:8181/v1/data/nsm/valid. invalid_argument unless it is http(s).
  static base::Result<std::unique_ptr<OpaClient>> make(base::EventLoop& loop, std::string url,
                                                       base::Duration patience = kPatience);
  ~OpaClient() override;

  base::Task<base::Result<bool>> decide(std::string input) override;

 private:
  struct Handle;  // libcurl's; the thread's own
  OpaClient(base::EventLoop& loop, std::string url, base::Duration patience);

  base::EventLoop& loop_;
  const std::string url_;
  const base::Duration patience_;
  std::unique_ptr<Handle> handle_;
  base::WorkerThread worker_;
};

// What an answer's body says; an error unless it is {"result": true} or {"result": false}.
base::Result<bool> parse_decision(const std::string& body);

}  // namespace mesh
