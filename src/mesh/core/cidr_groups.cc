// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/cidr_groups.h"

#include <algorithm>
#include <iterator>

namespace mesh {

namespace {

using base::Code;
using base::fail;
using base::Result;

std::string without_blanks(std::string_view text) {
  std::string kept;
  std::ranges::copy_if(text, std::back_inserter(kept), [](char c) { return c != ' ' && (c < '\t' || c > '\r'); });
  return kept;
}

// The items of one group; the text has neither blanks nor brackets.
Result<std::vector<std::string>> parse_items(std::string_view text) {
  auto items = base::parse_list(text);
  if (items.empty() || std::ranges::find(items, std::string()) != items.end()) {
    return fail(Code::invalid_argument, "a group holds an empty item, write [a,b],[c] without commas to spare");
  }
  return items;
}

}  // namespace

Result<TextGroups> parse_groups(std::string_view text) {
  const auto wrong_bracket = [](std::string_view where) {
    return fail(Code::invalid_argument, "the brackets do not fit at '{}', write [a,b],[c],d", where.substr(0, 40));
  };
  const std::string compact = without_blanks(text);
  TextGroups groups;
  if (compact.empty()) return groups;
  for (std::string_view rest = compact;;) {
    const bool bracketed = rest.starts_with('[');
    const auto from = bracketed ? 1U : 0U;
    const auto end = std::min(rest.find_first_of(bracketed ? "[]" : "[],", from), rest.size());
    if (bracketed ? end == rest.size() || rest[end] != ']' : end < rest.size() && rest[end] != ',') {
      return wrong_bracket(rest);
    }
    auto items = parse_items(rest.substr(from, end - from));
    if (!items) return std::unexpected(items.error());
    groups.push_back(std::move(*items));

    rest.remove_prefix(end + from);
    if (rest.empty()) return groups;
    if (rest.front() != ',') return wrong_bracket(rest);
    rest.remove_prefix(1);
  }
}

Result<CidrGroups> parse_cidr_groups(std::string_view text) {
  const auto groups = parse_groups(text);
  if (!groups) return std::unexpected(groups.error());
  if (groups->empty()) {
    return fail(Code::invalid_argument,
                "at least one prefix is needed, write 172.16.1.0/24 or [172.16.1.0/24],[2001:db8::/64]");
  }
  CidrGroups parsed;
  for (const auto& group : *groups) {
    auto& pool = parsed.emplace_back();
    for (const auto& item : group) {
      const auto prefix = wire::Prefix::parse(item);
      if (!prefix) return std::unexpected(prefix.error());
      pool.push_back(prefix->network());
    }
  }
  return parsed;
}

base::Option cidr_groups_option(std::string name, CidrGroups* field, std::string fallback, std::string help) {
  return parsed_option(std::move(name), field, "groups of prefixes", parse_cidr_groups, std::move(fallback),
                       std::move(help));
}

}  // namespace mesh
