// SPDX-License-Identifier: Apache-2.0
// A client's side of authorize: an answer counts if Authorization accepts the whole path it came back with, and the
// peer that gave it. After: begin. Below it: connect. Keeps nothing. A first answer that does not count is undone: the
// connection is closed; a repeated one leaves it as it was.
#pragma once

#include "mesh/core/element.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/connect/next_hop.h"

namespace mesh {

class AuthorizeAnswer final : public Element {
 public:
  using Needs = Types<Serialised, NextHop>;

  // authorization outlives it; null: everything counts.
  explicit AuthorizeAnswer(Authorization* authorization) : authorization_(authorization) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override {
    auto connection = co_await call.next(std::move(request));
    if (!connection || authorization_ == nullptr) co_return connection;
    const rpc::Peer peer = call.state().get<AnsweredBy>().peer;
    auto trusted = co_await authorization_->check_answer(*connection, peer);
    if (trusted) co_return connection;
    co_await call.undo_below(*connection);
    co_return std::unexpected(trusted.error());
  }

 private:
  Authorization* const authorization_;
};

}  // namespace mesh
