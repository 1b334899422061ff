// SPDX-License-Identifier: Apache-2.0
// An operator's own rules: who may request, offer and monitor what. A YAML file, read at start and again on demand.
//
//   rules:
//     - allow: [request, monitor]
//       spiffe_id: spiffe://example.org/ns/shop/**
//       service: shop-*
//       labels: {tier: front}
//     - deny: offer
//       spiffe_id: spiffe://example.org/ns/guest/*
//
// The first rule that fits decides; a key that is left out fits everything. Nothing fits: denied.
//
// | key       | fits | | spiffe_id | who began it: the subject of the path's first token; for monitor the peer. *
// within, ** across slashes  | | peer      | who is at the other end of the connection, by its certificate; the same
// globs                          | | service   | the network service asked for, offered or monitored; * is any text |
// | labels    | a connection, or the endpoint for that service, that has all of them |
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "mesh/core/api.h"

namespace mesh {

// '*' stands for any text without slashes, '**' for any text.
bool glob_matches(std::string_view pattern, std::string_view text);

enum class Verb { request, offer, monitor };

std::string_view name_of(Verb verb);

// What is asked of the rules.
struct Asked {
  std::string spiffe_id;
  std::string peer;
  std::string service;
  Labels labels;
};

class Rules {
 public:
  // invalid_argument names the line and what is wrong there; origin is what to call the text.
  static base::Result<Rules> parse(const std::string& yaml, std::string_view origin);

  bool allow(Verb verb, const Asked& asked) const;
  std::size_t size() const { return rules_.size(); }

 private:
  friend struct RuleReader;
  struct Rule {
    bool allow = false;
    bool verbs[3] = {};
    std::string spiffe_id = "**";
    std::string peer = "**";
    std::string service = "**";
    Labels labels;
  };
  std::vector<Rule> rules_;
};

// Rules from a file (PATCHBAY_POLICY_FILE).
class RuleFile {
 public:
  static base::Result<RuleFile> open(std::string path);

  // Reads the file again. On failure the rules stay as they were.
  base::Result<void> reload();
  const Rules& rules() const { return rules_; }

 private:
  RuleFile(std::string path, Rules rules) : path_(std::move(path)), rules_(std::move(rules)) {}
  static base::Result<Rules> read(const std::string& path);

  std::string path_;
  Rules rules_;
};

}  // namespace mesh
