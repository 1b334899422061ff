// SPDX-License-Identifier: Apache-2.0
// A client without its process: asks for connections, keeps them alive and gives them up.
#pragma once

#include <memory>
#include <string>

#include "base/random.h"
#include "mesh/core/chain.h"
#include "mesh/core/liveness.h"
#include "mesh/core/network_service_url.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/begin/begin.h"
#include "mesh/elements/client_info/client_info.h"
#include "mesh/elements/excluded_prefixes/excluded_prefixes.h"
#include "mesh/elements/heal/heal.h"
#include "mesh/elements/refresh/refresh.h"
#include "rpc/transport.h"

namespace mesh {

struct ClientParts {
  base::Scheduler& scheduler;
  base::Random& random;
  rpc::Transport& transport;
  Liveness& liveness;
  std::string name;
  std::string connect_to;             // the manager's URL
  rpc::Descriptor network_namespace;  // where its interfaces go
  ClientInfo client_info;
  HealOptions heal;
  Heal::Observer observer;
  ExcludedPrefixes::AwarenessGroups awareness_groups;
  Authorization* authorization = nullptr;  // null: every answer counts
};

class Client {
 public:
  explicit Client(const ClientParts& parts);

  // One connection, by the id NSM's clients use: NAME-INDEX. A connection of that id that the manager still knows of,
  // from this client's earlier life, is taken over: same endpoint, same addresses. One attempt, within the timeout.
  base::Task<base::Result<Connection>> connect(const NetworkServiceUrl& url, std::size_t index, base::Duration timeout,
                                               base::StopToken stop);

  // Closes all connections, all at once.
  base::Task<void> close_all(base::Duration timeout);

  // Ends refreshing and healing; connections stay as they are until their tokens expire.
  base::Task<void> finish();

  const Begin& connections() const { return *begin_; }

 private:
  // What the manager knows of the id; nothing if it does not know it.
  base::Task<std::optional<Connection>> known_before(const std::string& id, const std::string& mechanism_type,
                                                     base::TimePoint deadline, base::StopToken stop);

  base::Scheduler& scheduler_;
  rpc::Transport& transport_;
  Liveness& liveness_;
  const std::string name_;
  const std::string connect_to_;
  const HealOptions heal_options_;
  std::shared_ptr<Begin> begin_;
  std::shared_ptr<Refresh> refresh_;
  std::shared_ptr<Heal> heal_;
  Chain chain_;
};

}  // namespace mesh
