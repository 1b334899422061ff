// SPDX-License-Identifier: Apache-2.0
// Records what passes a server: calls as they come in, what they are answered, messages on streams, their ends.
//
//   fakes::CallTape tape;
//   const rpc::Services recorded = tape.record("nsmgr", manager.services());
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "rpc/transport.h"

namespace fakes {

class CallTape {
 public:
  enum class Kind { call, answer, failure, message, end };

  struct Event {
    Event(Kind k, std::string p, const rpc::ServerCall& call, rpc::Bytes b)
        : kind(k), peer(std::move(p)), method(call.method), metadata(call.metadata), body(std::move(b)) {}
    Kind kind;
    std::string peer;
    std::string method;
    rpc::Metadata metadata;
    rpc::Bytes body;  // failure: the error's text
  };

  // The same services, recorded under the peer's name. The tape must outlive them.
  rpc::Services record(const std::string& peer, const rpc::Services& services) {
    rpc::Services recorded;
    for (const auto& [method, handler] : services) {
      if (const auto* unary = std::get_if<rpc::UnaryHandler>(&handler)) {
        recorded[method] = rpc::UnaryHandler([this, peer, next = *unary](rpc::ServerCall& call, rpc::Bytes body) {
          return pass_unary(peer, next, call, std::move(body));
        });
      } else {
        recorded[method] = rpc::StreamHandler([this, peer, next = std::get<rpc::StreamHandler>(handler)](
                                                  rpc::ServerCall& call, rpc::Bytes body, rpc::ServerStream& stream) {
          return pass_stream(peer, next, call, std::move(body), stream);
        });
      }
    }
    return recorded;
  }

  std::vector<Event> events;

 private:
  class Out final : public rpc::ServerStream {
   public:
    Out(CallTape& tape, std::string peer, const rpc::ServerCall& call, rpc::ServerStream& next)
        : tape_(tape), peer_(std::move(peer)), call_(call), next_(next) {}
    base::Task<base::Result<void>> write(rpc::Bytes message, std::vector<rpc::Descriptor> descriptors) override {
      tape_.events.emplace_back(Kind::message, peer_, call_, message);
      return next_.write(std::move(message), std::move(descriptors));
    }

   private:
    CallTape& tape_;
    const std::string peer_;
    const rpc::ServerCall& call_;
    rpc::ServerStream& next_;
  };

  base::Task<base::Result<rpc::Bytes>> pass_unary(std::string peer, rpc::UnaryHandler next, rpc::ServerCall& call,
                                                  rpc::Bytes body) {
    events.emplace_back(Kind::call, peer, call, body);
    auto answer = co_await next(call, std::move(body));
    if (answer) {
      events.emplace_back(Kind::answer, peer, call, *answer);
    } else {
      events.emplace_back(Kind::failure, peer, call, answer.error().message());
    }
    co_return answer;
  }
  base::Task<base::Result<void>> pass_stream(std::string peer, rpc::StreamHandler next, rpc::ServerCall& call,
                                             rpc::Bytes body, rpc::ServerStream& stream) {
    events.emplace_back(Kind::call, peer, call, body);
    Out out(*this, peer, call, stream);
    auto ended = co_await next(call, std::move(body), out);
    events.emplace_back(Kind::end, peer, call, std::string());
    co_return ended;
  }
};

}  // namespace fakes
