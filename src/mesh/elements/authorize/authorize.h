// SPDX-License-Identifier: Apache-2.0
// Who may request and close connections here: whoever Authorization lets, and of a connection that exists only whoever
// made it.
//
// After: path, path_token. Before: begin, which it asks whether a connection exists; so a refused call finds nothing to
// undo, and what a process does by itself (expiry, heal) is below and is asked nothing. Changes nothing. Keeps, per
// connection: the ID of the peer that made it, and the path's first segment, id and subject. Repeated request: judged
// anew, with fresh tokens.
//
// A Close is the maker's. So is a repeated Request, with one exception: where the caller is not the path's first hop, a
// hop before this one may have been replaced (a restarted manager may have another SPIFFE ID); then the first segment
// must be the same. Policies alone would admit every chained, signed path, whosever connection it names.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mesh/core/element.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/begin/begin.h"
#include "mesh/elements/path_token/path_token.h"

namespace mesh {

class Authorize final : public Element {
 public:
  using Needs = Types<Identified, FreshTokens>;

  // authorization outlives it; null: everything passes.
  Authorize(Authorization* authorization, std::shared_ptr<const Begin> begin)
      : authorization_(authorization), begin_(std::move(begin)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

  // Whether that peer made the connection with this process's own id.
  bool made(const rpc::Peer& peer, const std::string& id) const;
  // Whether that peer asked for a connection that it calls by this id.
  bool asked_for(const rpc::Peer& peer, const std::string& callers_id) const;

  std::size_t remembered() const { return owners_.size(); }

 private:
  struct Owner {
    std::string peer;
    std::string callers_id;  // the connection's id at the hop before
    std::string first_id;    // of segment 0
    std::string first_subject;
  };
  static Owner owner_of(const Connection& connection, const rpc::Peer& peer);
  // Empty: it may. Else what is wrong.
  std::string objection(const Connection& connection, const Owner& asking, Authorization::Act act) const;
  void remember(const std::string& id, Owner owner);
  void forget_if_gone(const std::string& id);

  Authorization* const authorization_;
  const std::shared_ptr<const Begin> begin_;
  std::map<std::string, Owner> owners_;  // by own id; some may be gone already
};

}  // namespace mesh
