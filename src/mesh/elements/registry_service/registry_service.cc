// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/registry_service/registry_service.h"

#include <google/protobuf/empty.pb.h>

#include "rpc/typed.h"

namespace mesh {

using base::Result;
using base::Task;

namespace {

// The handlers of one kind; shared by the functions that refer to it.
template <typename Kind>
struct Server {
  Server(base::Scheduler& s, Registry<Kind>& r) : scheduler(s), registry(r) {}
  using Record = typename Kind::Record;

  base::Scheduler& scheduler;
  Registry<Kind>& registry;

  RegistryCall make_call(const rpc::ServerCall& from) const {
    RegistryCall call(scheduler, from.deadline, from.stop);
    call.metadata = from.metadata;
    call.link = from.link;
    return call;
  }

  Task<Result<Record>> enroll(rpc::ServerCall& from, Record record) const {
    RegistryCall call = make_call(from);
    auto stored = co_await registry.enroll(call, std::move(record));
    if (stored) answer(from, call);
    co_return stored;
  }

  Task<Result<google::protobuf::Empty>> withdraw(rpc::ServerCall& from, Record record) const {
    RegistryCall call = make_call(from);
    auto done = co_await registry.withdraw(call, std::move(record));
    if (!done) co_return std::unexpected(done.error());
    answer(from, call);
    co_return google::protobuf::Empty();
  }

  Task<Result<void>> find(rpc::ServerCall& from, rpc::Bytes bytes, rpc::ServerStream& out) const {
    auto query = rpc::parse<typename Kind::Query>(bytes, from.method);
    if (!query) co_return std::unexpected(query.error());
    RegistryCall call = make_call(from);
    auto stream = co_await registry.find(call, std::move(*query));
    if (!stream) co_return std::unexpected(stream.error());
    for (;;) {
      auto found = co_await (*stream)->next();
      if (!found) co_return std::unexpected(found.error());
      if (!*found) co_return Result<void>();
      std::vector<rpc::Descriptor> descriptors;
      if ((*found)->socket) descriptors.push_back(*(*found)->socket);
      rpc::Bytes message = (*found)->response.SerializeAsString();
      if (auto sent = co_await out.write(std::move(message), std::move(descriptors)); !sent) co_return sent;
    }
  }

  static void answer(rpc::ServerCall& from, RegistryCall& call) {
    from.reply_metadata.emplace("path", format_path(call.path));
    from.reply_descriptors = std::move(call.reply_descriptors);
  }
};

template <typename Kind>
void serve(rpc::Services& services, base::Scheduler& scheduler, Registry<Kind>& registry) {
  using Record = typename Kind::Record;
  const auto server = std::make_shared<Server<Kind>>(scheduler, registry);
  services.insert_or_assign(Kind::kRegister,
                            rpc::unary_handler<Record, Record>([server](rpc::ServerCall& call, Record record) {
                              return server->enroll(call, std::move(record));
                            }));
  services.insert_or_assign(Kind::kUnregister, rpc::unary_handler<Record, google::protobuf::Empty>(
                                                   [server](rpc::ServerCall& call, Record record) {
                                                     return server->withdraw(call, std::move(record));
                                                   }));
  services.insert_or_assign(
      Kind::kFind, rpc::StreamHandler([server](rpc::ServerCall& call, rpc::Bytes bytes, rpc::ServerStream& out) {
        return server->find(call, std::move(bytes), out);
      }));
}

}  // namespace

void serve_registry(rpc::Services& services, base::Scheduler& scheduler, ServiceRegistry& registry) {
  serve<Services>(services, scheduler, registry);
}

void serve_registry(rpc::Services& services, base::Scheduler& scheduler, EndpointRegistry& registry) {
  serve<Endpoints>(services, scheduler, registry);
}

}  // namespace mesh
