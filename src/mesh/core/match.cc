// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/match.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <optional>
#include <ranges>

namespace mesh {

namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (static_cast<unsigned char>(c) & 0x80) != 0;
}
bool is_name(char c) { return is_name_start(c) || (c >= '0' && c <= '9'); }

void trim_front(std::string_view& text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
}
void trim_back(std::string_view& text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
}

bool take(std::string_view& rest, std::string_view word) {
  if (!rest.starts_with(word)) return false;
  rest.remove_prefix(word.size());
  return true;
}

std::string_view take_name(std::string_view& rest) {
  if (rest.empty() || !is_name_start(rest.front())) return {};
  const auto end = std::ranges::find_if_not(rest, is_name);
  const auto name = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest.remove_prefix(name.size());
  return name;
}

// "key" with the escapes \" and \\, or `key`.
std::optional<std::string> take_string(std::string_view& rest) {
  if (take(rest, "`")) {
    const auto end = rest.find('`');
    if (end == std::string_view::npos) return std::nullopt;
    std::string raw(rest.substr(0, end));
    rest.remove_prefix(end + 1);
    return raw;
  }
  if (!take(rest, "\"")) return std::nullopt;
  std::string text;
  while (!rest.empty() && rest.front() != '"' && rest.front() != '\n') {
    if (rest.front() == '\\') {
      rest.remove_prefix(1);
      if (rest.empty() || (rest.front() != '"' && rest.front() != '\\')) return std::nullopt;
    }
    text += rest.front();
    rest.remove_prefix(1);
  }
  if (!take(rest, "\"")) return std::nullopt;
  return text;
}

// What stands between the braces: the value it has; nullopt if it is neither of the two forms.
std::optional<std::string> take_operand(std::string_view& rest, const Labels& client) {
  if (take(rest, ".")) {
    const std::string name(take_name(rest));
    if (name.empty()) return std::nullopt;
    const auto found = client.find(name);
    return found == client.end() ? "<no value>" : found->second;
  }
  if (!take(rest, "index") || rest.empty() || !is_space(rest.front())) return std::nullopt;
  trim_front(rest);
  if (!take(rest, ".") || rest.empty() || !is_space(rest.front())) return std::nullopt;
  trim_front(rest);
  const auto key = take_string(rest);
  if (!key) return std::nullopt;
  const auto found = client.find(*key);
  return found == client.end() ? "" : found->second;
}

enum class ActionEnd { none, plain, trimming };

ActionEnd take_action_end(std::string_view& rest) {
  const bool spaced = !rest.empty() && is_space(rest.front());
  trim_front(rest);
  if (take(rest, "}}")) return ActionEnd::plain;
  return spaced && take(rest, "-}}") ? ActionEnd::trimming : ActionEnd::none;
}

const std::string& label(const Labels& labels, const std::string& key) {
  static const std::string absent;
  const auto found = labels.find(key);
  return found == labels.end() ? absent : found->second;
}

Labels labels_under(const NetworkServiceEndpoint& endpoint, const std::string& service) {
  const auto found = endpoint.network_service_labels().find(service);
  return found == endpoint.network_service_labels().end() ? Labels() : ordered(found->second.labels());
}

bool applies(const registry::Match& match, const Labels& client) {
  return fits(client, ordered(match.source_selector()), client);
}

}  // namespace

std::string expand_template(std::string_view text, const Labels& client) {
  std::string expanded;
  bool trim = false;  // the text before this point ended with -}}
  for (std::string_view rest = text;;) {
    const auto open = rest.find("{{");
    auto literal = rest.substr(0, open);
    if (trim) trim_front(literal);
    if (open == std::string_view::npos) return expanded.append(literal);

    rest.remove_prefix(open + 2);
    if (rest.size() > 1 && rest[0] == '-' && is_space(rest[1])) {
      rest.remove_prefix(1);
      trim_back(literal);
    }
    trim_front(rest);
    const auto value = take_operand(rest, client);
    const auto end = take_action_end(rest);
    if (!value || end == ActionEnd::none) return std::string(text);
    expanded.append(literal).append(*value);
    trim = end == ActionEnd::trimming;
  }
}

bool fits(const Labels& labels, const Labels& selector, const Labels& client) {
  if (labels.size() < selector.size()) return false;
  return std::ranges::all_of(selector, [&](const auto& wanted) {
    const auto& value = label(labels, wanted.first);
    return value == wanted.second || value == expand_template(wanted.second, client);
  });
}

std::vector<NetworkServiceEndpoint> match_endpoints(const Labels& client, const NetworkService& service,
                                                    const std::vector<NetworkServiceEndpoint>& endpoints) {
  if (service.matches().empty()) return endpoints;
  for (const auto& match : service.matches()) {
    if (!applies(match, client)) continue;
    std::vector<NetworkServiceEndpoint> candidates;
    for (const auto& route : match.routes()) {
      const auto selector = ordered(route.destination_selector());
      for (const auto& endpoint : endpoints) {
        if (fits(labels_under(endpoint, service.name()), selector, client)) candidates.push_back(endpoint);
      }
    }
    if (candidates.empty() && match.fallthrough()) continue;
    // Such a match speaks of forwarders alone.
    if (match.has_metadata() && match.routes().empty()) return endpoints;
    return candidates;
  }
  return {};
}

Labels required_forwarder_labels(const registry::Match& match) {
  if (match.metadata().labels().empty()) return {{"p2p", "true"}};
  return ordered(match.metadata().labels());
}

std::vector<NetworkServiceEndpoint> match_forwarders(const Labels& client, const NetworkService& service,
                                                     std::string_view forwarder_service,
                                                     const std::vector<NetworkServiceEndpoint>& forwarders) {
  if (service.matches().empty()) return forwarders;
  const std::string name(forwarder_service);
  for (const auto& match : service.matches()) {
    if (!applies(match, client)) continue;
    const auto required = required_forwarder_labels(match);
    std::vector<NetworkServiceEndpoint> candidates;
    std::ranges::copy_if(forwarders, std::back_inserter(candidates), [&](const NetworkServiceEndpoint& forwarder) {
      return fits(labels_under(forwarder, name), required, client);
    });
    if (candidates.empty() && match.fallthrough()) continue;
    return candidates;
  }
  return {};
}

bool matches(const NetworkService& query, const NetworkService& stored) {
  if (!query.name().empty() && query.name() != stored.name()) return false;
  if (!query.payload().empty() && query.payload() != stored.payload()) return false;
  return query.matches().empty() ||
         std::ranges::equal(query.matches(), stored.matches(), [](const auto& one, const auto& other) {
           return google::protobuf::util::MessageDifferencer::Equals(one, other);
         });
}

bool matches(const NetworkServiceEndpoint& query, const NetworkServiceEndpoint& stored) {
  if (!query.name().empty() && query.name() != stored.name()) return false;
  if (stored.url().find(query.url()) == std::string::npos) return false;
  const auto& names = stored.network_service_names();
  for (const auto& name : query.network_service_names()) {
    if (std::ranges::find(names, name) == names.end()) return false;
  }
  for (const auto& [service, wanted] : query.network_service_labels()) {
    const auto found = stored.network_service_labels().find(service);
    if (found == stored.network_service_labels().end()) return false;
    for (const auto& [key, value] : wanted.labels()) {
      const auto bears = found->second.labels().find(key);
      if (bears == found->second.labels().end() || bears->second != value) return false;
    }
  }
  return !query.has_expiration_time() || query.expiration_time().seconds() == stored.expiration_time().seconds();
}

}  // namespace mesh
