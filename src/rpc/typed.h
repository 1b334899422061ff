// SPDX-License-Identifier: Apache-2.0
// Protobuf messages over a transport: serialises on the way out, parses on the way in, refuses garbage in one sentence.
#pragma once

#include <utility>

#include "rpc/transport.h"

namespace rpc {

template <typename Message>
base::Result<Message> parse(const Bytes& bytes, std::string_view method) {
  Message message;
  if (!message.ParseFromString(bytes)) {
    return base::fail(base::Code::invalid_argument, "{}: {} bytes are not a {}", method, bytes.size(),
                      message.GetTypeName());
  }
  return message;
}

template <typename Response>
struct TypedReply {
  TypedReply(Response m, Metadata md, std::shared_ptr<Link> l)
      : message(std::move(m)), metadata(std::move(md)), link(std::move(l)) {}
  Response message;
  Metadata metadata;
  std::shared_ptr<Link> link;
};

template <typename Response, typename Request>
base::Task<base::Result<TypedReply<Response>>> unary(std::shared_ptr<Channel> channel, std::string method,
                                                     const Request& request, CallOptions options) {
  Bytes body = request.SerializeAsString();
  auto reply = co_await channel->unary(method, std::move(body), std::move(options));
  if (!reply) co_return std::unexpected(reply.error());
  auto message = parse<Response>(reply->body, method);
  if (!message) co_return std::unexpected(message.error());
  co_return TypedReply<Response>(std::move(*message), std::move(reply->metadata), std::move(reply->link));
}

template <typename Request, typename Response>
UnaryHandler unary_handler(std::function<base::Task<base::Result<Response>>(ServerCall&, Request)> handler) {
  return [handler = std::move(handler)](ServerCall& call, Bytes bytes) -> base::Task<base::Result<Bytes>> {
    auto request = parse<Request>(bytes, call.method);
    if (!request) co_return std::unexpected(request.error());
    auto response = co_await handler(call, std::move(*request));
    if (!response) co_return std::unexpected(response.error());
    co_return response->SerializeAsString();
  };
}

}  // namespace rpc
