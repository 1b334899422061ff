// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/path_token/path_token.h"

namespace mesh {

using base::Result;
using base::Task;

namespace {

void put(PathSegment* segment, const Token& token) {
  segment->set_token(token.text);
  set_time(segment->mutable_expires(), token.expires);
}

}  // namespace

void PathToken::refresh(const CallContext& context, Path& path) {
  const int own = static_cast<int>(path.index());
  if (own > 0) {
    if (const auto token = token_of(context.metadata)) put(path.mutable_path_segments(own - 1), *token);
  }
  put(path.mutable_path_segments(own), tokens_.issue(rpc::peer_of(context.link)));
}

Task<Result<Connection>> PathToken::request(Call& call, NetworkServiceRequest request) {
  refresh(call.context(), *request.mutable_connection()->mutable_path());
  co_return co_await call.next(std::move(request));
}

Task<Result<void>> PathToken::close(Call& call, Connection connection) {
  refresh(call.context(), *connection.mutable_path());
  co_return co_await call.next_close(std::move(connection));
}

}  // namespace mesh
