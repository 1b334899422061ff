// SPDX-License-Identifier: Apache-2.0
#include "identity/server/rules.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "base/environment.h"
#include "base/log.h"
#include "identity/server/authority.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr std::array<std::string_view, 6> kPlaceholders{"trust_domain", "host", "uid", "gid", "executable", "pod_uid"};

// path or something below it.
bool within(std::string_view path, std::string_view top) {
  while (top.ends_with('/')) top.remove_suffix(1);
  return path == top || (path.starts_with(top) && path[top.size()] == '/');
}

std::string base_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

// Nothing if a placeholder's value is not known. Requires known placeholders.
std::optional<std::string> fill_in(std::string_view pattern, const Place& place, const Caller& caller) {
  const auto value_of = [&](std::string_view name) -> std::optional<std::string> {
    if (name == "trust_domain") return place.trust_domain;
    if (name == "host") return place.host;
    if (name == "uid") return std::to_string(caller.uid);
    if (name == "gid") return std::to_string(caller.gid);
    if (name == "executable") return caller.executable.transform(base_name);
    return caller.pod_uid;
  };
  std::string text;
  while (!pattern.empty()) {
    const auto open = std::min(pattern.find('{'), pattern.size());
    text += pattern.substr(0, open);
    pattern.remove_prefix(open);
    if (pattern.empty()) break;
    const auto close = pattern.find('}');
    const auto value = value_of(pattern.substr(1, close - 1));
    if (!value) return std::nullopt;
    text += *value;
    pattern.remove_prefix(close + 1);
  }
  return text;
}

// A caller of whom everything is known, to see what a template makes of it.
Caller example() {
  Caller caller;
  caller.executable = "/bin/example";
  caller.cgroup = "/";
  caller.pod_uid = "00000000-0000-0000-0000-000000000000";
  return caller;
}

Result<void> check_template(const std::string& pattern, const Place& place) {
  for (std::size_t at = 0; (at = pattern.find_first_of("{}", at)) != std::string::npos;) {
    const auto close = pattern.find('}', at);
    const bool known = pattern[at] == '{' && close != std::string::npos &&
                       std::ranges::find(kPlaceholders, std::string_view(pattern).substr(at + 1, close - at - 1)) !=
                           kPlaceholders.end();
    if (!known) {
      return fail(Code::invalid_argument, "id '{}' has a placeholder that does not exist: use {{{}}}", pattern,
                  fmt::join(kPlaceholders, "}, {"));
    }
    at = close + 1;
  }
  const auto id = SpiffeId::parse(*fill_in(pattern, place, example()));
  if (!id) return std::unexpected(id.error());
  return check_issuable(*id, place.trust_domain);
}

// Everything below throws YAML's exceptions; parse() catches them.
Result<unsigned> number(const YAML::Node& value, std::string_view key) {
  auto parsed = base::parse_unsigned(value.as<std::string>(), 0xFFFF'FFFE);
  if (!parsed) return std::unexpected(parsed.error().wrap(fmt::format("{} '{}'", key, value.as<std::string>())));
  return static_cast<unsigned>(*parsed);
}

Result<std::string> absolute(const YAML::Node& value, std::string_view key) {
  auto text = value.as<std::string>();
  if (!text.starts_with('/')) return fail(Code::invalid_argument, "{} '{}' is no absolute path", key, text);
  return text;
}

template <typename T>
Result<void> take(Result<T> from, std::optional<T>& into) {
  if (!from) return std::unexpected(from.error());
  into = std::move(*from);
  return {};
}

Result<WorkloadRule> parse_workload(const YAML::Node& node, const Place& place) {
  WorkloadRule rule;
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    Result<void> done;
    if (key == "uid") {
      done = take(number(entry.second, key), rule.uid);
    } else if (key == "gid") {
      done = take(number(entry.second, key), rule.gid);
    } else if (key == "executable") {
      done = take(absolute(entry.second, key), rule.executable);
    } else if (key == "cgroup") {
      done = take(absolute(entry.second, key), rule.cgroup);
    } else if (key == "pod_uid") {
      rule.pod_uid = entry.second.as<std::string>();
    } else if (key == "id") {
      rule.id = entry.second.as<std::string>();
      done = check_template(rule.id, place);
    } else {
      done = fail(Code::invalid_argument, "there is no '{}': use uid, gid, executable, cgroup, pod_uid and id", key);
    }
    if (!done) return std::unexpected(done.error());
  }
  if (rule.id.empty()) return fail(Code::invalid_argument, "it has no id: add what its callers are to be called");
  if (!rule.uid && !rule.gid && !rule.executable && !rule.cgroup && !rule.pod_uid) {
    return fail(Code::invalid_argument,
                "it says nothing of its callers: add uid, gid, executable, cgroup or pod_uid (cgroup: / is everybody)");
  }
  return rule;
}

Result<NodeRule> parse_node(const YAML::Node& node, const Place& place) {
  NodeRule rule;
  bool has_ids = false;
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    if (key == "node") {
      rule.node = entry.second.as<std::string>();
    } else if (key == "ids") {
      has_ids = true;
      rule.ids = entry.second.as<std::vector<std::string>>();
      for (const auto& text : rule.ids) {
        const auto id = SpiffeId::parse(text);
        if (!id) return std::unexpected(id.error());
        if (id->trust_domain() != place.trust_domain) {
          return fail(Code::invalid_argument, "{} is not of trust domain {}", text, place.trust_domain);
        }
      }
    } else {
      return fail(Code::invalid_argument, "there is no '{}': use node and ids", key);
    }
  }
  if (rule.node.empty()) return fail(Code::invalid_argument, "it names no node: add node: NAME, or node: \"*\"");
  if (!has_ids) return fail(Code::invalid_argument, "it has no ids: add a list, an empty one shuts the node out");
  return rule;
}

template <typename Rule>
Result<void> parse_list(const YAML::Node& list, Result<Rule> (*parse)(const YAML::Node&, const Place&),
                        const Place& place, std::vector<Rule>& into) {
  if (!list.IsNull() && !list.IsSequence()) {
    return fail(Code::invalid_argument, "line {}: this must be a list, each entry begins with '- '",
                list.Mark().line + 1);
  }
  for (const auto& node : list) {
    const auto line = fmt::format("rule in line {}", node.Mark().line + 1);
    if (!node.IsMap()) return fail(Code::invalid_argument, "{}: it must consist of key: value", line);
    auto rule = parse(node, place);
    if (!rule) return std::unexpected(rule.error().wrap(line));
    into.push_back(std::move(*rule));
  }
  return {};
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  std::string text(name.data());
  std::ranges::replace_if(
      text, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_'; }, '-');
  return text.empty() ? "localhost" : text;
}

bool WorkloadRule::matches(const Caller& caller) const {
  return (!uid || *uid == caller.uid) && (!gid || *gid == caller.gid) &&
         (!executable || executable == caller.executable) && (!pod_uid || pod_uid == caller.pod_uid) &&
         (!cgroup || (caller.cgroup && within(*caller.cgroup, *cgroup)));
}

Rules Rules::standard(Place place) {
  Rules rules(std::move(place));
  WorkloadRule root;
  root.uid = 0;
  root.id = "spiffe://{trust_domain}/host/{host}/uid/{uid}/{executable}";
  rules.workloads_.push_back(std::move(root));
  return rules;
}

Result<Rules> Rules::parse(const std::string& text, const std::string& name, Place place) {
  Rules rules(std::move(place));
  try {
    const auto document = YAML::Load(text);
    if (!document.IsMap()) {
      return fail(Code::invalid_argument, "rules {}: they must begin with workloads: or nodes:", name);
    }
    for (const auto& entry : document) {
      const auto key = entry.first.as<std::string>();
      Result<void> done;
      if (key == "workloads") {
        done = parse_list(entry.second, &parse_workload, rules.place_, rules.workloads_);
      } else if (key == "nodes") {
        done = parse_list(entry.second, &parse_node, rules.place_, rules.nodes_);
      } else {
        done = fail(Code::invalid_argument, "there is no '{}': use workloads and nodes", key);
      }
      if (!done) return std::unexpected(done.error().wrap("rules " + name));
    }
  } catch (const YAML::Exception& wrong) {
    return fail(Code::invalid_argument, "rules {}: line {}: {}", name, wrong.mark.line + 1, wrong.msg);
  }
  return rules;
}

Result<Rules> Rules::read(const std::string& path, Place place) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || !text) {
    return fail(Code::failed_precondition, "rules {} cannot be read: make them readable, or unset the variable", path);
  }
  return parse(text.str(), path, std::move(place));
}

std::vector<SpiffeId> Rules::ids_of(const Caller& caller) const {
  std::vector<SpiffeId> ids;
  for (const auto& rule : workloads_) {
    if (!rule.matches(caller)) continue;
    const auto text = fill_in(rule.id, place_, caller);
    if (!text) continue;
    auto id = SpiffeId::parse(*text);
    const auto issuable = id ? check_issuable(*id, place_.trust_domain) : std::unexpected(id.error());
    if (!issuable) {
      base::log::warning("a caller ({}) gets no ID by rule '{}': {}", caller.text(), rule.id,
                         issuable.error().message());
    } else if (std::ranges::find(ids, *id) == ids.end()) {
      ids.push_back(std::move(*id));
    }
  }
  return ids;
}

const NodeRule* Rules::rule_of(std::string_view node) const {
  auto found = std::ranges::find(nodes_, node, &NodeRule::node);
  if (found == nodes_.end()) found = std::ranges::find(nodes_, "*", &NodeRule::node);
  return found == nodes_.end() ? nullptr : &*found;
}

bool Rules::admits(std::string_view node) const {
  const auto* const rule = rule_of(node);
  return rule == nullptr || !rule->ids.empty();
}

Result<void> Rules::check_node(std::string_view node, const SpiffeId& id) const {
  if (auto issuable = check_issuable(id, place_.trust_domain); !issuable) return issuable;
  const auto* const rule = rule_of(node);
  if (rule == nullptr) return {};
  const bool allowed = std::ranges::any_of(rule->ids, [&](const std::string& top) { return within(id.text(), top); });
  if (allowed) return {};
  return fail(Code::permission_denied, "node {} may not have {} issued: add it to the CA's rules", node, id.text());
}

}  // namespace identity
