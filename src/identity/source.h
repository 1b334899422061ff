// SPDX-License-Identifier: Apache-2.0
// Who this process is, now. SVIDs and bundles rotate: whoever needs them asks each time and keeps nothing.
#pragma once

#include <memory>

#include "identity/certificate.h"
#include "rpc/transport.h"

namespace identity {

// Never changes once made.
struct Identity final : rpc::Credentials {
  Identity(X509Svid own, Bundles known) : svid(std::move(own)), bundles(std::move(known)) {}
  X509Svid svid;
  Bundles bundles;  // the own trust domain's and federated ones
};

class Source {
 public:
  virtual ~Source() = default;
  // Nothing only before the first SVID has come. On the event loop's thread.
  virtual std::shared_ptr<const Identity> current() const = 0;
};

// One that somebody else fills.
class FixedSource final : public Source {
 public:
  FixedSource() = default;
  explicit FixedSource(std::shared_ptr<const Identity> identity) : identity_(std::move(identity)) {}
  std::shared_ptr<const Identity> current() const override { return identity_; }
  void set(std::shared_ptr<const Identity> identity) { identity_ = std::move(identity); }

 private:
  std::shared_ptr<const Identity> identity_;
};

}  // namespace identity
