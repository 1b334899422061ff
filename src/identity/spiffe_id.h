// SPDX-License-Identifier: Apache-2.0
// SPIFFE IDs: spiffe://TRUST-DOMAIN/PATH, by the rules of the SPIFFE-ID standard.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace identity {

// Lower-case letters, digits, '.', '-' and '_', 1 to 255 of them.
base::Result<std::string> parse_trust_domain(std::string_view text);

class SpiffeId {
 public:
  // At most 2,048 bytes; path segments of letters, digits, '.', '-' and '_', none empty, "." or "..". invalid_argument.
  static base::Result<SpiffeId> parse(std::string_view text);

  const std::string& text() const { return text_; }
  std::string_view trust_domain() const;
  std::string_view path() const;  // with its slash; empty for a trust domain's own ID

  auto operator<=>(const SpiffeId&) const = default;

 private:
  explicit SpiffeId(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace identity
