// SPDX-License-Identifier: Apache-2.0
#include "forwarder/elements/kernel_mechanism.h"

#include "kernel/link.h"
#include "mesh/core/interface_name.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace forwarder {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using mesh::Connection;

namespace {

struct ChosenName {
  std::string name;
};

}  // namespace

Task<Result<Connection>> KernelMechanism::request(mesh::Call& call, mesh::NetworkServiceRequest request) {
  auto& parameters = *request.mutable_connection()->mutable_mechanism()->mutable_parameters();
  std::string& name = parameters[mesh::parameter::kName];
  if (name.empty()) {
    auto& chosen = call.state().get<ChosenName>();
    if (chosen.name.empty())
      chosen.name = mesh::generated_interface_name(request.connection().network_service(), random_);
    name = chosen.name;
  }
  if (auto valid = kernel::check_interface_name(name); !valid) co_return std::unexpected(valid.error());
  const std::string url = parameters[mesh::parameter::kInodeUrl];
  if (!call.state().get<mesh::HeldDescriptors>().find(url)) {
    co_return fail(
        Code::invalid_argument,
        "mechanism KERNEL has inodeURL '{}': it must name the client's network namespace as inode://device/inode, "
        "and the client must pass that file over its unix socket",
        url);
  }
  co_return co_await call.next(std::move(request));
}

}  // namespace forwarder
