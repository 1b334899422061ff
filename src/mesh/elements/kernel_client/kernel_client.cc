// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/kernel_client/kernel_client.h"

#include "mesh/core/interface_name.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace mesh {

using base::Result;
using base::Task;

namespace {

std::uint64_t mixed(std::uint64_t seed, std::string_view text) {
  std::uint64_t hash = 14695981039346656037ULL ^ seed;  // FNV-1a; SeededRandom does the rest of the mixing
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

}  // namespace

void KernelClient::complete(const Connection& connection, Mechanism& mechanism) const {
  if (mechanism.type() != kKernel) return;
  auto& parameters = *mechanism.mutable_parameters();
  parameters[parameter::kInodeUrl] = namespace_.url();
  if (std::string& name = parameters[parameter::kName]; name.empty()) {
    base::SeededRandom random(mixed(seed_, connection.id()));
    name = generated_interface_name(connection.network_service(), random);
  }
}

Task<Result<Connection>> KernelClient::request(Call& call, NetworkServiceRequest request) {
  call.state().get<HeldDescriptors>().hold(namespace_);
  Connection& connection = *request.mutable_connection();
  if (request.mechanism_preferences().empty() && connection.mechanism().type().empty()) {
    auto& kernel = *request.add_mechanism_preferences();
    kernel.set_cls(std::string(kLocal));
    kernel.set_type(std::string(kKernel));
  }
  for (Mechanism& preference : *request.mutable_mechanism_preferences()) complete(connection, preference);
  if (connection.has_mechanism()) complete(connection, *connection.mutable_mechanism());
  return call.next(std::move(request));
}

}  // namespace mesh
