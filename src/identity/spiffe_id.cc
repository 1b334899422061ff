// SPDX-License-Identifier: Apache-2.0
#include "identity/spiffe_id.h"

#include <algorithm>

namespace identity {

using base::Code;
using base::fail;

namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::size_t kMaxId = 2048;
constexpr std::size_t kMaxTrustDomain = 255;

bool in(char letter, char first, char last) { return letter >= first && letter <= last; }

bool fits_trust_domain(char letter) {
  return in(letter, 'a', 'z') || in(letter, '0', '9') || letter == '.' || letter == '-' || letter == '_';
}

bool fits_path(char letter) { return fits_trust_domain(letter) || in(letter, 'A', 'Z'); }

// What is quoted in an error: printable, and not longer than is useful.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 100));
  std::ranges::replace_if(out, [](char letter) { return !in(letter, ' ', '~'); }, '?');
  return out;
}

}  // namespace

base::Result<std::string> parse_trust_domain(std::string_view text) {
  if (text.empty() || text.size() > kMaxTrustDomain || !std::ranges::all_of(text, fits_trust_domain)) {
    return fail(Code::invalid_argument,
                "'{}' is not a trust domain: write 1 to {} of lower-case letters, digits, '.', '-' and '_'",
                shown(text), kMaxTrustDomain);
  }
  return std::string(text);
}

base::Result<SpiffeId> SpiffeId::parse(std::string_view text) {
  if (!text.starts_with(kScheme) || text.size() > kMaxId) {
    return fail(Code::invalid_argument, "'{}' is not a SPIFFE ID: write spiffe://TRUST-DOMAIN/PATH, at most {} bytes",
                shown(text), kMaxId);
  }
  const auto rest = text.substr(kScheme.size());
  const auto slash = std::min(rest.find('/'), rest.size());
  if (auto domain = parse_trust_domain(rest.substr(0, slash)); !domain) {
    return std::unexpected(domain.error().wrap(shown(text)));
  }
  for (auto path = rest.substr(slash); !path.empty();) {
    path.remove_prefix(1);  // the slash
    const auto end = std::min(path.find('/'), path.size());
    const auto segment = path.substr(0, end);
    if (segment.empty() || segment == "." || segment == ".." || !std::ranges::all_of(segment, fits_path)) {
      return fail(Code::invalid_argument,
                  "'{}' is not a SPIFFE ID: segment '{}' of its path must be letters, digits, '.', '-' and '_', and"
                  " neither empty nor '.' nor '..'",
                  shown(text), shown(segment));
    }
    path.remove_prefix(end);
  }
  return SpiffeId(std::string(text));
}

std::string_view SpiffeId::trust_domain() const {
  const auto rest = std::string_view(text_).substr(kScheme.size());
  return rest.substr(0, rest.find('/'));
}

std::string_view SpiffeId::path() const {
  return std::string_view(text_).substr(kScheme.size() + trust_domain().size());
}

}  // namespace identity
