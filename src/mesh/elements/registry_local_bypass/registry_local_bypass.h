// SPDX-License-Identifier: Apache-2.0
// The manager's two faces: upstream, every endpoint of this node has the manager's public URL; to this node's processes
// it has its own.
//
// Changes: url, on the way up to the public one, in answers back to the endpoint's. Keeps, per name: the endpoint's own
// URL, until it is unregistered. On a failed registration the name is as before. A refresh may bring another URL.
//
// An answer that bears the manager's URL under a name that is not known here is left over from before a restart; it is
// left out, unless it tells of a deletion. An answer that bears another URL is passed on, also under a known name: then
// the name has moved to another node. Only known names are unregistered upstream.
#pragma once

#include <map>
#include <string>

#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

class RegistryLocalBypass final : public RegistryElement<Endpoints> {
 public:
  explicit RegistryLocalBypass(std::string public_url) : public_url_(std::move(public_url)) {}

  base::Task<base::Result<NetworkServiceEndpoint>> enroll(RegistryCall& call, NetworkServiceEndpoint endpoint) override;
  base::Task<base::Result<void>> withdraw(RegistryCall& call, NetworkServiceEndpoint endpoint) override;
  base::Task<base::Result<Stream>> find(RegistryCall& call, Query query) override;

 private:
  std::optional<Found<Endpoints>> localised(Found<Endpoints> found) const;

  const std::string public_url_;
  std::map<std::string, std::string, std::less<>> urls_;
};

}  // namespace mesh
