// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/registry.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mesh {

using base::Code;
using base::fail;

namespace {

constexpr std::size_t kMaxHops = 32;  // a registration passes two or three; anything near this is a loop or an attack

const nlohmann::json* member(const nlohmann::json& object, std::string_view name) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::equal(key, name,
                           [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); })) {
      return &value;
    }
  }
  return nullptr;
}

}  // namespace

std::string format_path(const RegistrationPath& path) {
  nlohmann::ordered_json json;
  json["Index"] = path.index;
  if (path.tokens.empty()) {
    json["PathSegments"] = nullptr;
  } else {
    auto segments = nlohmann::ordered_json::array();
    for (const std::string& token : path.tokens) segments.push_back({{"token", token}});
    json["PathSegments"] = std::move(segments);
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

base::Result<RegistrationPath> parse_path(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) {
    return fail(Code::invalid_argument,
                "metadata path is not a JSON object: send {{\"Index\":0,\"PathSegments\":null}} or a longer one");
  }
  RegistrationPath path;
  if (const auto* index = member(json, "Index")) {
    if (!index->is_number_unsigned() || index->get<std::uint64_t>() > kMaxHops) {
      return fail(Code::invalid_argument, "metadata path has Index {}: it must be a number from 0 to {}", index->dump(),
                  kMaxHops);
    }
    path.index = index->get<std::uint32_t>();
  }
  const auto* segments = member(json, "PathSegments");
  if (segments == nullptr || segments->is_null()) return path;
  if (!segments->is_array() || segments->size() > kMaxHops) {
    return fail(Code::invalid_argument, "metadata path has PathSegments that are not a list of at most {} segments",
                kMaxHops);
  }
  for (const auto& segment : *segments) {
    const auto* token = segment.is_object() ? member(segment, "token") : nullptr;
    if (token != nullptr && !token->is_string()) {
      return fail(Code::invalid_argument, "metadata path has a token that is not a string");
    }
    path.tokens.push_back(token == nullptr ? std::string() : token->get<std::string>());
  }
  return path;
}

}  // namespace mesh
