// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize/policies.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <regex>

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using identity::Jwt;

namespace {

struct Embedded {
  Policy policy;
  std::string_view set;
  std::string_view name;
};

constexpr std::array kEmbedded{
    Embedded{Policy::tokens_valid, "common", "tokens_valid"},
    Embedded{Policy::tokens_expired, "common", "tokens_expired"},
    Embedded{Policy::tokens_chained, "common", "tokens_chained"},
    Embedded{Policy::prev_token_signed, "server", "prev_token_signed"},
    Embedded{Policy::next_token_signed, "client", "next_token_signed"},
    Embedded{Policy::client_allowed, "registry", "client_allowed"},
    Embedded{Policy::service_connection, "monitor", "service_connection"},
};

std::string virtual_path(const Embedded& embedded) {
  return fmt::format("etc/nsm/opa/{}/{}.rego", embedded.set, embedded.name);
}

constexpr std::size_t kMaxMask = 256;

// Only what a mask needs of regular expressions.
bool is_plain(std::string_view mask) {
  if (mask.size() > kMaxMask) return false;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] == '\\' && i + 1 < mask.size() && mask[i + 1] == '.') continue;
    const bool letter = (mask[i] >= 'a' && mask[i] <= 'z') || (mask[i] >= 'A' && mask[i] <= 'Z');
    const bool digit = mask[i] >= '0' && mask[i] <= '9';
    if (!letter && !digit && std::string_view("/._-*+?|()[]^$").find(mask[i]) == std::string_view::npos) return false;
  }
  return true;
}

Result<void> add_matching(PolicySet& policies, const std::string& mask) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(mask, ignored)) {
    return fail(Code::invalid_argument,
                "policy mask {} is a file: Rego is not interpreted here; name embedded policies and let an OPA server "
                "decide the rest (PATCHBAY_OPA_URL)",
                mask);
  }
  if (!is_plain(mask)) {
    return fail(
        Code::invalid_argument,
        "policy mask {} is too long or too clever: write up to {} letters, digits and /._-*+?|()[]^$, and no other "
        "escape than \\.",
        mask.substr(0, kMaxMask), kMaxMask);
  }
  std::regex expression;
  try {
    // Without backtracking: libstdc++'s own flag, as no mask may take for ever.
    expression.assign(mask, std::regex::ECMAScript | std::regex_constants::__polynomial);
  } catch (const std::regex_error&) {
    return fail(Code::invalid_argument,
                "policy mask {} is no regular expression: write one such as etc/nsm/opa/common/.*.rego", mask);
  }
  bool matched = false;
  for (const Embedded& embedded : kEmbedded) {
    if (!std::regex_search(virtual_path(embedded), expression)) continue;
    policies.add(embedded.policy);
    matched = true;
  }
  if (matched) return {};
  std::string known;
  for (const Embedded& embedded : kEmbedded) known += (known.empty() ? "" : ", ") + virtual_path(embedded);
  return fail(Code::invalid_argument, "policy mask {} chooses nothing: there are {}", mask, known);
}

// Segment 2 (forwarder-a).
std::string segment(const CheckedPath& path, std::size_t at) {
  if (at >= path.names.size()) return fmt::format("segment {}", at);
  return fmt::format("segment {} ({})", at, path.names[at]);
}

std::unexpected<base::Error> refuse(Policy policy, const std::string& why) {
  return fail(Code::permission_denied, "{}: {}", name_of(policy), why);
}

using Tokens = std::vector<std::shared_ptr<const Jwt>>;  // nothing where one does not read

Result<void> tokens_valid(const CheckedPath& path, identity::TokenVerifier& verifier) {
  for (std::size_t i = 0; i < path.tokens.size(); ++i) {
    const auto token = verifier.read(path.tokens[i]);
    if (!token) return refuse(Policy::tokens_valid, segment(path, i) + ": " + token.error().message());
  }
  return {};
}

Result<void> tokens_expired(const CheckedPath& path, const Tokens& tokens, base::WallTime now) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto refused = [&](std::string_view why) {
      return refuse(Policy::tokens_expired, fmt::format("{}: {}", segment(path, i), why));
    };
    if (!tokens[i]) return refused("its token cannot be read");
    if (!tokens[i]->expires) return refused("its token does not say when it expires");
    if (*tokens[i]->expires <= now) return refused("its token has expired; check that the nodes' clocks agree");
    if (tokens[i]->not_before && *tokens[i]->not_before > now) {
      return refused("its token is not valid yet; check that the nodes' clocks agree");
    }
  }
  return {};
}

Result<void> tokens_chained(const CheckedPath& path, const Tokens& tokens) {
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    const auto refused = [&](std::string_view why) {
      return refuse(Policy::tokens_chained, fmt::format("{}: {}", segment(path, i), why));
    };
    if (!tokens[i] || !tokens[i + 1]) return refused("its token or the next cannot be read");
    if (!tokens[i]->audience_is_list) return refused("its token's aud is not a list");
    const std::string& next = tokens[i + 1]->subject;
    if (next.empty()) return refused("the token after it has no subject");
    if (std::ranges::find(tokens[i]->audience, next) == tokens[i]->audience.end()) {
      return refused("its token was not made for " + next);
    }
  }
  return {};
}

Result<void> neighbour_signed(Policy policy, const CheckedPath& path, std::size_t at, const Tokens& tokens,
                              identity::TokenVerifier& verifier, base::WallTime now) {
  if (at >= tokens.size()) return refuse(policy, fmt::format("the path has no segment {}", at));
  const auto refused = [&](std::string_view why) {
    return refuse(policy, fmt::format("{}: {}", segment(path, at), why));
  };
  if (!tokens[at]) return refused("its token cannot be read");
  if (path.peer.expires <= now) return refused("the certificate of its connection has expired");
  if (auto held = verifier.signed_by(path.tokens[at], path.peer.certificate); !held) {
    return refused(held.error().message());
  }
  if (tokens[at]->subject.empty()) return refused("its token has no subject");
  if (tokens[at]->subject != path.peer.id) {
    return refused(fmt::format("{} signed a token in the name of {}", path.peer.id, tokens[at]->subject));
  }
  return {};
}

}  // namespace

std::string_view name_of(Policy policy) { return std::ranges::find(kEmbedded, policy, &Embedded::policy)->name; }

Result<PolicySet> parse_policies(std::string_view masks) {
  PolicySet policies;
  while (!masks.empty()) {
    const auto comma = masks.find(',');
    std::string mask(masks.substr(0, comma));
    masks.remove_prefix(comma == std::string_view::npos ? masks.size() : comma + 1);
    mask.erase(0, mask.find_first_not_of(" \t"));
    mask.erase(mask.find_last_not_of(" \t") + 1);
    if (mask.empty()) continue;
    if (auto added = add_matching(policies, mask); !added) return std::unexpected(added.error());
  }
  return policies;
}

Result<void> check_tokens(PolicySet policies, const CheckedPath& path, identity::TokenVerifier& verifier,
                          base::WallTime now) {
  Tokens tokens;
  for (const std::string& text : path.tokens) {
    auto token = verifier.read(text);
    tokens.push_back(token ? *token : nullptr);
  }
  Result<void> held;
  if (policies.has(Policy::tokens_valid)) held = tokens_valid(path, verifier);
  if (held && policies.has(Policy::tokens_expired)) held = tokens_expired(path, tokens, now);
  if (held && policies.has(Policy::tokens_chained)) held = tokens_chained(path, tokens);
  if (held && policies.has(Policy::prev_token_signed)) {
    held = path.index == 0 ? refuse(Policy::prev_token_signed, "the caller has no segment on the path")
                           : neighbour_signed(Policy::prev_token_signed, path, path.index - 1, tokens, verifier, now);
  }
  if (held && policies.has(Policy::next_token_signed)) {
    held = neighbour_signed(Policy::next_token_signed, path, path.index + 1, tokens, verifier, now);
  }
  return held;
}

}  // namespace mesh
