// SPDX-License-Identifier: Apache-2.0
// One thing at a time happens to a connection: requests, closes, expiry, refresh and heal queue here in order of
// arrival. Remembers what each connection last was.
//
// After: path. Keeps: ConnectionState, the last request and the last connection. First request that fails: everything
// kept is dropped. Failed repeated request: the connection stays as it was. Close acts on the remembered connection,
// and for an unknown id does nothing and succeeds. A request that asks for RESELECT closes what existed before it goes
// on.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/async.h"
#include "mesh/core/chain.h"
#include "mesh/core/element.h"

namespace mesh {

class Begin final : public Element {
 public:
  using Needs = Types<Identified>;
  using Gives = Types<Serialised>;

  // The side says whose word counts on a repeated request: a server takes the caller's, a client its own memory, from
  // which the caller may change the endpoint's name and the context.
  enum class Side { server, client };

  Begin(Side side, base::Scheduler& scheduler) : side_(side), scheduler_(scheduler), tasks_(scheduler) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

  // Connections that exist, by this process's own ids. For reports, reconciliation and tests.
  std::vector<Connection> connections() const;
  std::size_t size() const { return entries_.size(); }
  // Also while its first request is under way.
  bool knows(const std::string& id) const { return entries_.contains(id); }

  // Closes every connection, all at once, and waits for the last. For a process that stops in good order.
  base::Task<void> close_all(base::TimePoint deadline);
  // Waits for what events have started; nothing starts afterwards.
  base::Task<void> finish();

 private:
  struct Entry;
  class Events;

  std::shared_ptr<Entry> entry(const std::string& id);
  void forget(const std::shared_ptr<Entry>& entry);
  // With the entry's lock held:
  base::Task<base::Result<Connection>> run(std::shared_ptr<Entry> entry, CallContext& context,
                                           NetworkServiceRequest request);
  base::Task<base::Result<void>> run_close(std::shared_ptr<Entry> entry, CallContext& context);

  base::Task<base::Result<Connection>> request_again(std::shared_ptr<Entry> entry, Reselect reselect,
                                                     base::StopToken stop);
  base::Task<void> close_entry(std::shared_ptr<Entry> entry, base::TimePoint deadline);

  const Side side_;
  base::Scheduler& scheduler_;
  std::map<std::string, std::shared_ptr<Entry>> entries_;
  base::TaskScope tasks_;
};

}  // namespace mesh
