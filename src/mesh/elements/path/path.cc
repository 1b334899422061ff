// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/path/path.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

constexpr std::uint32_t kMaxSegments = 64;  // two nodes need 6, chained endpoints a few more

}  // namespace

Result<std::uint32_t> PathElement::enter(Connection& connection) {
  Path& path = *connection.mutable_path();
  const auto count = static_cast<std::uint32_t>(path.path_segments_size());
  const std::uint32_t index = path.index();
  if (count > kMaxSegments) {
    return fail(Code::invalid_argument, "the path of connection {} has {} segments, more than {}: it loops",
                connection.id(), count, kMaxSegments);
  }

  if (count == 0) {
    if (connection.id().empty()) connection.set_id(base::uuid4(random_));
    PathSegment* own = path.add_path_segments();
    own->set_name(name_);
    own->set_id(connection.id());
    path.set_index(0);
    return 0U;
  }
  if (index < count && path.path_segments(static_cast<int>(index)).name() == name_) {
    connection.set_id(path.path_segments(static_cast<int>(index)).id());
    return index;
  }
  if (index >= count) {
    return fail(Code::invalid_argument, "Path.Index+1=={} should be less or equal len(Path.PathSegments)=={}",
                index + 1, count);
  }
  const PathSegment& previous = path.path_segments(static_cast<int>(index));
  if (previous.id() != connection.id()) {
    return fail(Code::invalid_argument, "Current PathSegment.Id=={} should be equal Connection.Id=={}", previous.id(),
                connection.id());
  }
  const std::uint32_t own_index = index + 1;
  PathSegment* own =
      own_index < count ? path.mutable_path_segments(static_cast<int>(own_index)) : path.add_path_segments();
  if (own->name() != name_) {
    own->set_name(name_);
    own->set_id(base::uuid4(random_));
  }
  path.set_index(own_index);
  connection.set_id(own->id());
  return index;
}

Task<Result<Connection>> PathElement::request(Call& call, NetworkServiceRequest request) {
  const auto returned = enter(*request.mutable_connection());
  if (!returned) co_return std::unexpected(returned.error());

  auto connection = co_await call.next(std::move(request));
  if (!connection) co_return connection;
  if (static_cast<std::uint32_t>(connection->path().path_segments_size()) <= *returned) {
    co_return fail(Code::internal, "the answer to {} lost the caller's path segment {}", connection->id(), *returned);
  }
  connection->mutable_path()->set_index(*returned);
  connection->set_id(connection->path().path_segments(static_cast<int>(*returned)).id());
  co_return connection;
}

Task<Result<void>> PathElement::close(Call& call, Connection connection) {
  const auto returned = enter(connection);
  if (!returned) co_return std::unexpected(returned.error());
  co_return co_await call.next_close(std::move(connection));
}

}  // namespace mesh
