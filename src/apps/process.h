// SPDX-License-Identifier: Apache-2.0
// What every role's process consists of: a loop, randomness, tokens and a transport; options from the environment;
// signals; and one way to start and to end.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/security.h"
#include "base/environment.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "mesh/core/token.h"
#include "rpc/http2/transport.h"

namespace apps {

// Exit codes are those of the whole program: 0 success, 1 failure, 2 usage.
inline constexpr int kSuccess = 0;
inline constexpr int kFailure = 1;

// What all roles are told by the same variables.
struct CommonOptions {
  std::string name;
  base::log::Level log_level = base::log::Level::info;
  base::Duration max_token_lifetime{};
  SecurityOptions security;
};
// What names this process on paths and, for a forwarder, on its marks.
base::Result<std::string> parse_process_name(std::string_view text);

std::vector<base::Option> common_options(CommonOptions& options, std::string default_name);

class Process {
 public:
  explicit Process(const CommonOptions& options);

  base::EventLoop loop;
  base::SystemRandom random;
  ProcessSecurity security;
  mesh::TokenSource& tokens;
  mesh::TokenCredentials credentials;
  rpc::http2::Transport transport;

  // Waits for an identity and runs the role until it returns. Its token stops on SIGINT, SIGTERM, SIGHUP or SIGQUIT;
  // the second such signal does not wait for the role. SIGUSR1 logs everything, SIGUSR2 goes back to the configured
  // level. Returns the role's exit code.
  int run(const std::function<base::Task<int>(Process&, base::StopToken)>& role);

 private:
  const base::log::Level log_level_;
};

// Reads the options; says what is wrong with them on standard error.
bool read_options(std::span<const base::Option> options,
                  const base::Environment& environment = base::process_environment());

// Ends a task with one sentence in the log.
int failed(const base::Error& error);

// Serves on every URL of the list; nothing listens if one of them cannot.
base::Result<std::vector<std::unique_ptr<rpc::Listener>>> listen_on(rpc::Transport& transport,
                                                                    const std::vector<std::string>& urls,
                                                                    const rpc::Services& services);
base::Task<void> finish_all(std::vector<std::unique_ptr<rpc::Listener>>& listeners);

// The URL others reach a server by: its first TCP URL, or else its first. A TCP URL without a host gets this machine's
// first global address.
base::Result<std::string> public_url(const std::vector<std::string>& listening);

}  // namespace apps
