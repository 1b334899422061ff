// SPDX-License-Identifier: Apache-2.0
// One Request or Close on its way down a chain, and what the process remembers of the connection it is about.
#pragma once

#include <functional>
#include <memory>
#include <typeindex>
#include <utility>
#include <vector>

#include "base/async.h"
#include "mesh/core/api.h"
#include "rpc/transport.h"

namespace mesh {

class Chain;
class Call;

// What elements keep per connection, by type: each element defines a struct of its own and asks for it. Lives from the
// first Request to the end of Close; dropped in reverse order of first use.
class ConnectionState {
 public:
  ConnectionState() = default;
  ConnectionState(const ConnectionState&) = delete;
  ConnectionState& operator=(const ConnectionState&) = delete;
  ~ConnectionState() {
    while (!entries_.empty()) entries_.pop_back();
  }

  // Made from the arguments on first use.
  template <typename T, typename... Args>
  T& get(Args&&... args) {
    if (T* found = find<T>()) return *found;
    auto made = std::make_shared<T>(std::forward<Args>(args)...);
    T& reference = *made;
    entries_.emplace_back(std::type_index(typeid(T)), std::move(made));
    return reference;
  }

  template <typename T>
  T* find() const {
    for (const auto& [type, value] : entries_) {
      if (type == std::type_index(typeid(T))) return static_cast<T*>(value.get());
    }
    return nullptr;
  }

 private:
  std::vector<std::pair<std::type_index, std::shared_ptr<void>>> entries_;
};

enum class Reselect {
  no,        // the same endpoint, the same path: a refresh
  endpoint,  // close, then let the mesh choose anew
};

// Acts on an established connection from outside a call: timers, monitors, heal. Serialised with everything else that
// happens to the connection. Given out by the begin element; holds nothing alive.
class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;

  // Requests the connection again with what it last was. Errors: cancelled if it was closed meanwhile.
  virtual base::Task<base::Result<Connection>> request_again(Reselect reselect, base::StopToken stop) = 0;
  // Closes it; nothing happens if it is closed already.
  virtual base::Task<void> close() = 0;
  // Whether the connection is closed for good.
  virtual bool closed() const = 0;
  // Like close(), from code that cannot wait.
  virtual void close_soon() = 0;
};

// What all elements share of one call. Plain data; elements that own a field say so in their contract.
struct CallContext {
  CallContext(base::Scheduler& s, base::TimePoint d, base::StopToken t)
      : scheduler(s),
        deadline(d),
        allowance(d == base::kNoDeadline ? base::Duration::max() : d - s.now()),
        stop(std::move(t)) {}

  base::Scheduler& scheduler;
  base::TimePoint deadline;
  base::Duration allowance;  // what was left of the deadline on entry: an undo gets as much
  base::StopToken stop;

  rpc::Metadata metadata;           // that the call came with
  std::shared_ptr<rpc::Link> link;  // that it came over; none if the process itself began the call

  std::shared_ptr<ConnectionState> state;    // begin
  std::shared_ptr<ConnectionEvents> events;  // begin
  bool established = false;                  // begin: the connection existed before this call
  bool answered_below = false;               // connect: a peer further down the path has answered
  std::vector<rpc::Descriptor> reply_descriptors;
};

// An element's view of the call: the shared context and its own place in the chain.
class Call {
 public:
  Call(CallContext& context, const Chain& chain, std::size_t position)
      : context_(context), chain_(chain), position_(position) {}

  CallContext& context() { return context_; }
  base::Scheduler& scheduler() { return context_.scheduler; }
  ConnectionState& state() { return *context_.state; }

  base::Task<base::Result<Connection>> next(NetworkServiceRequest request);
  base::Task<base::Result<void>> next_close(Connection connection);

  // After a failure above an answer from below: closes what this call opened. A connection that existed before the call
  // stays as it is. Runs on a deadline of its own, also when the call was cancelled.
  base::Task<void> undo_below(const Connection& connection);

  const Chain& chain() const { return chain_; }
  std::size_t position() const { return position_; }

 private:
  CallContext& context_;
  const Chain& chain_;
  std::size_t position_;
};

}  // namespace mesh
