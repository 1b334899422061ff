// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/kernel_endpoint/kernel_endpoint.h"

#include <algorithm>

#include "mesh/core/interface_name.h"

namespace mesh {

using base::Result;
using base::Task;

namespace {

constexpr std::size_t kMaxInterfaceName = 15;  // IFNAMSIZ less the closing zero

}  // namespace

// Kept per connection; generated names avoid those in use.
class KernelEndpoint::NameInUse {
 public:
  explicit NameInUse(std::shared_ptr<Names> names) : names_(std::move(names)) {}
  NameInUse(const NameInUse&) = delete;
  NameInUse& operator=(const NameInUse&) = delete;
  ~NameInUse() { forget(); }

  const std::string& name() const { return name_; }
  void set(const std::string& name) {
    forget();
    name_ = name;
    names_->insert(name_);
  }

 private:
  void forget() {
    if (const auto found = names_->find(name_); found != names_->end()) names_->erase(found);
  }
  std::shared_ptr<Names> names_;
  std::string name_;
};

Task<Result<Connection>> KernelEndpoint::request(Call& call, NetworkServiceRequest request) {
  Mechanism& mechanism = *request.mutable_connection()->mutable_mechanism();
  if (mechanism.type() != kKernel) co_return co_await call.next(std::move(request));

  auto& parameters = *mechanism.mutable_parameters();
  parameters[parameter::kInodeUrl] = namespace_.url();
  std::string& name = parameters[parameter::kName];
  auto& in_use = call.state().get<NameInUse>(names_);
  if (name.empty()) name = in_use.name();
  if (name.empty()) {
    do {
      name = generated_interface_name(request.connection().network_service(), random_);
    } while (names_->contains(name));
  }
  name.resize(std::min(name.size(), kMaxInterfaceName));
  in_use.set(name);

  auto connection = co_await call.next(std::move(request));
  if (!connection) co_return connection;
  auto& files = call.context().reply_descriptors;
  const bool there =
      std::ranges::any_of(files, [&](const rpc::Descriptor& one) { return one.key() == namespace_.key(); });
  if (!there) files.push_back(namespace_);
  co_return connection;
}

}  // namespace mesh
