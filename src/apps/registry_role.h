// SPDX-License-Identifier: Apache-2.0
// `patchbay registry`: the mesh's registry as a process. A store (SQLite file or memory), the chains in front of it,
// health, and listeners. Takes the place of NSM's registry-memory; its options have that one's names where it has them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/security.h"
#include "base/environment.h"
#include "base/event_loop.h"
#include "mesh/chains/registry.h"
#include "mesh/elements/registry_remote/registry_remote.h"
#include "registry/memory_registry.h"
#include "registry/sqlite_registry.h"
#include "rpc/transport.h"

namespace apps {

struct RegistryConfig {
  base::TextList listen_on;
  base::Duration max_token_lifetime{};
  base::log::Level log_level{};
  SecurityOptions security;
  std::string proxy_registry_url;
  std::string store;
  std::string file;
};

std::vector<base::Option> registry_options(RegistryConfig& config);

// The process's inside: everything but signals, log and exit code.
class RegistryRole {
 public:
  // Opens the store, which may block: before the loop runs. The loop, the transport, the tokens and the
  // authorization outlive the role.
  static base::Result<std::unique_ptr<RegistryRole>> make(base::EventLoop& loop, rpc::Transport& transport,
                                                          mesh::TokenSource& tokens, const RegistryConfig& config,
                                                          mesh::Authorization* authorization = nullptr);

  // Drops what expired while the registry was down, then listens on every URL.
  base::Task<base::Result<void>> start();
  // Ends watches and listeners. Must be awaited before destruction if start() was.
  base::Task<void> finish();

  std::vector<std::string> urls() const;  // where it listens

 private:
  struct MemoryStore {
    explicit MemoryStore(base::Scheduler& scheduler) : services(scheduler), endpoints(scheduler) {}
    registry::MemoryRegistry<mesh::Services> services;
    registry::MemoryRegistry<mesh::Endpoints> endpoints;
  };
  struct Proxy {
    Proxy(rpc::Transport& transport, const std::string& url, mesh::Authorization* authorization)
        : services(transport, url, authorization), endpoints(transport, url, authorization) {}
    mesh::RegistryRemote<mesh::Services> services;
    mesh::RegistryRemote<mesh::Endpoints> endpoints;
  };

  RegistryRole(base::EventLoop& loop, rpc::Transport& transport, mesh::TokenSource& tokens,
               const RegistryConfig& config, mesh::Authorization* authorization,
               std::unique_ptr<registry::SqliteRegistry> sqlite);

  rpc::Transport& transport_;
  const base::TextList listen_on_;
  std::unique_ptr<registry::SqliteRegistry> sqlite_;  // this store
  std::optional<MemoryStore> memory_;                 // or that one
  std::optional<Proxy> proxy_;
  mesh::RegistryChain chain_;
  rpc::Services services_;
  std::vector<std::unique_ptr<rpc::Listener>> listeners_;
};

// The whole process: runs until SIGINT, SIGTERM, SIGQUIT or SIGHUP. Returns the exit code: 0 after a signal, 1 when it
// cannot start; the reason is on standard error.
int run_registry(const base::Environment& environment);

}  // namespace apps
