// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize/rules.h"

#include <yaml-cpp/yaml.h>

#include <array>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

namespace mesh {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr std::array<std::string_view, 3> kVerbs{"request", "offer", "monitor"};  // in the order of Verb
constexpr std::size_t kMaxFile = 1 << 20;                                         // bytes; nobody writes more by hand

// A mistake in the text, on its way to Rules::parse.
struct Mistake {
  int line;
  std::string what;
};

[[noreturn]] void mistake(const YAML::Node& at, std::string what) {
  throw Mistake{at.Mark().line + 1, std::move(what)};
}

std::string text_of(const YAML::Node& node, const std::string& key) {
  if (!node.IsScalar() || node.Scalar().empty()) mistake(node, key + " must be a text");
  return node.Scalar();
}

}  // namespace

struct RuleReader {
  static void read_verb(Rules::Rule& rule, const YAML::Node& node, const std::string& key) {
    const std::string name = text_of(node, key);
    for (std::size_t i = 0; i < kVerbs.size(); ++i) {
      if (kVerbs[i] != name) continue;
      rule.verbs[i] = true;
      return;
    }
    mistake(node, fmt::format("'{}' cannot be {}ed: use request, offer or monitor", name,
                              key == "deny" ? std::string("deni") : key));
  }

  static Rules::Rule read(const YAML::Node& node) {
    if (!node.IsMap()) mistake(node, "a rule is a map that begins with allow: or deny:");
    Rules::Rule rule;
    int decisions = 0;
    for (const auto& entry : node) {
      const std::string key = text_of(entry.first, "a rule's key");
      const YAML::Node& value = entry.second;
      if (key == "allow" || key == "deny") {
        ++decisions;
        rule.allow = key == "allow";
        if (value.IsSequence() && value.size() > 0) {
          for (const auto& verb : value) read_verb(rule, verb, key);
        } else {
          read_verb(rule, value, key);
        }
      } else if (key == "spiffe_id") {
        rule.spiffe_id = text_of(value, key);
      } else if (key == "peer") {
        rule.peer = text_of(value, key);
      } else if (key == "service") {
        rule.service = text_of(value, key);
      } else if (key == "labels") {
        if (!value.IsMap()) mistake(value, "labels must be a map of texts");
        for (const auto& label : value) {
          rule.labels[text_of(label.first, "a label")] = text_of(label.second, "a label's value");
        }
      } else {
        mistake(entry.first,
                fmt::format("a rule has no key '{}': use allow, deny, spiffe_id, peer, service and labels", key));
      }
    }
    if (decisions != 1) mistake(node, "a rule needs either allow or deny, once");
    return rule;
  }

  static Rules read_all(const YAML::Node& document) {
    Rules rules;
    if (!document.IsMap() || document.size() != 1 || !document["rules"]) {
      mistake(document, "the file must be a map with the one key 'rules'");
    }
    const YAML::Node list = document["rules"];
    if (!list.IsSequence()) mistake(list, "rules must be a list");
    for (const auto& rule : list) rules.rules_.push_back(read(rule));
    return rules;
  }
};

std::string_view name_of(Verb verb) { return kVerbs[static_cast<std::size_t>(verb)]; }

bool glob_matches(std::string_view pattern, std::string_view text) {
  // The places to come back to: after the last '*' and the last '**', with the text each has not swallowed yet.
  struct Place {
    std::size_t pattern;
    std::size_t text;
  };
  std::optional<Place> star;
  std::optional<Place> double_star;
  std::size_t p = 0;
  std::size_t t = 0;
  for (;;) {
    if (pattern.substr(p, 2) == "**") {
      p += 2;
      double_star = Place{p, t};
      star.reset();
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = Place{++p, t};
    } else if (p < pattern.size() && t < text.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (p == pattern.size() && t == text.size()) {
      return true;
    } else if (star && star->text < text.size() && text[star->text] != '/') {
      t = ++star->text;
      p = star->pattern;
    } else if (double_star && double_star->text < text.size()) {
      t = ++double_star->text;
      p = double_star->pattern;
      star.reset();
    } else {
      return false;
    }
  }
}

Result<Rules> Rules::parse(const std::string& yaml, std::string_view origin) {
  try {
    return RuleReader::read_all(YAML::Load(yaml));
  } catch (const Mistake& found) {
    return fail(Code::invalid_argument, "{}:{}: {}", origin, found.line, found.what);
  } catch (const YAML::Exception& error) {
    return fail(Code::invalid_argument, "{}:{}: this is not YAML: {}", origin, error.mark.line + 1, error.msg);
  }
}

bool Rules::allow(Verb verb, const Asked& asked) const {
  for (const Rule& rule : rules_) {
    if (!rule.verbs[static_cast<std::size_t>(verb)] || !glob_matches(rule.spiffe_id, asked.spiffe_id) ||
        !glob_matches(rule.peer, asked.peer) || !glob_matches(rule.service, asked.service)) {
      continue;
    }
    bool labelled = true;
    for (const auto& [key, value] : rule.labels) {
      const auto found = asked.labels.find(key);
      labelled = labelled && found != asked.labels.end() && found->second == value;
    }
    if (labelled) return rule.allow;
  }
  return false;
}

Result<Rules> RuleFile::read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return fail(Code::not_found, "cannot read the policy file {}: name one with PATCHBAY_POLICY_FILE, or none", path);
  }
  const std::string yaml = std::move(text).str();
  if (yaml.size() > kMaxFile) {
    return fail(Code::invalid_argument, "the policy file {} has {} bytes, the limit is {}", path, yaml.size(),
                kMaxFile);
  }
  return Rules::parse(yaml, path);
}

Result<RuleFile> RuleFile::open(std::string path) {
  auto rules = read(path);
  if (!rules) return std::unexpected(rules.error());
  return RuleFile(std::move(path), std::move(*rules));
}

Result<void> RuleFile::reload() {
  auto rules = read(path_);
  if (!rules) return std::unexpected(rules.error());
  rules_ = std::move(*rules);
  return {};
}

}  // namespace mesh
