// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize/rules.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace mesh {
namespace {

using ::testing::HasSubstr;

Rules rules(const std::string& yaml) { return Rules::parse(yaml, "rules.yaml").value(); }
std::string mistake(const std::string& yaml) {
  const auto parsed = Rules::parse(yaml, "rules.yaml");
  return parsed ? "no mistake" : parsed.error().message();
}
Asked asked(std::string id, std::string service = "shop", Labels labels = {}) {
  Asked made;
  made.spiffe_id = made.peer = std::move(id);
  made.service = std::move(service);
  made.labels = std::move(labels);
  return made;
}

TEST(GlobTest, OneStarStaysWithinASegmentTwoDoNot) {
  EXPECT_TRUE(glob_matches("spiffe://a/ns/*/sa/x", "spiffe://a/ns/shop/sa/x"));
  EXPECT_FALSE(glob_matches("spiffe://a/ns/*/x", "spiffe://a/ns/shop/sa/x"));
  EXPECT_TRUE(glob_matches("spiffe://a/ns/**/x", "spiffe://a/ns/shop/sa/x"));
  EXPECT_TRUE(glob_matches("spiffe://a/**", "spiffe://a/"));
  EXPECT_FALSE(glob_matches("spiffe://a/**", "spiffe://ab/x"));
  EXPECT_TRUE(glob_matches("**/b*d", "a/b/bcd"));
  EXPECT_FALSE(glob_matches("**/b*d", "a/b/bc/d"));
  EXPECT_TRUE(glob_matches("**", ""));
  EXPECT_FALSE(glob_matches("", "x"));
  EXPECT_TRUE(glob_matches("a*a*a", "aaaa"));
  EXPECT_FALSE(glob_matches("a*a*a*b", std::string(5000, 'a')));
}

TEST(RulesTest, TheFirstThatFitsDecides) {
  const Rules made = rules(R"(
rules:
  - deny: request
    spiffe_id: spiffe://a/guest/*
  - allow: [request, monitor]
    spiffe_id: spiffe://a/**
)");
  EXPECT_FALSE(made.allow(Verb::request, asked("spiffe://a/guest/1")));
  EXPECT_TRUE(made.allow(Verb::monitor, asked("spiffe://a/guest/1")));
  EXPECT_TRUE(made.allow(Verb::request, asked("spiffe://a/shop")));
}

TEST(RulesTest, WhatNothingFitsIsDenied) {
  EXPECT_FALSE(rules("rules: []").allow(Verb::request, asked("spiffe://a/b")));
  EXPECT_FALSE(rules("rules: [{allow: offer}]").allow(Verb::request, asked("spiffe://a/b")));
  EXPECT_FALSE(rules("rules: [{allow: request, spiffe_id: 'spiffe://a/*'}]").allow(Verb::request, asked("")));
}

TEST(RulesTest, EveryKeyMustFit) {
  const Rules made = rules("rules: [{allow: request, peer: 'spiffe://a/*', service: 'shop-*', labels: {tier: front}}]");
  EXPECT_TRUE(made.allow(Verb::request, asked("spiffe://a/x", "shop-1", {{"tier", "front"}, {"more", "1"}})));
  EXPECT_FALSE(made.allow(Verb::request, asked("spiffe://b/x", "shop-1", {{"tier", "front"}})));
  EXPECT_FALSE(made.allow(Verb::request, asked("spiffe://a/x", "bank-1", {{"tier", "front"}})));
  EXPECT_FALSE(made.allow(Verb::request, asked("spiffe://a/x", "shop-1", {{"tier", "back"}})));
  EXPECT_FALSE(made.allow(Verb::request, asked("spiffe://a/x", "shop-1")));
}

TEST(RulesTest, MistakesNameTheirLine) {
  EXPECT_THAT(mistake("rules:\n  - allow: request\n    servcie: x\n"),
              HasSubstr("rules.yaml:3: a rule has no key 'servcie'"));
  EXPECT_THAT(mistake("rules:\n  - allow: enter\n"), HasSubstr("rules.yaml:2: 'enter' cannot be allowed"));
  EXPECT_THAT(mistake("rules:\n  - service: x\n"), HasSubstr("rules.yaml:2: a rule needs either allow or deny"));
  EXPECT_THAT(mistake("rules:\n  - {allow: request, deny: offer}\n"), HasSubstr("either allow or deny, once"));
  EXPECT_THAT(mistake("rules:\n  - {allow: request, allow: offer}\n"), HasSubstr("either allow or deny, once"));
  EXPECT_THAT(mistake("rules:\n  - allow: []\n"), HasSubstr("allow must be a text"));
  EXPECT_THAT(mistake("rules:\n  - {allow: request, labels: x}\n"), HasSubstr("labels must be a map"));
  EXPECT_THAT(mistake("rules: x\n"), HasSubstr("rules must be a list"));
  EXPECT_THAT(mistake("rules:\n  - x\n"), HasSubstr("a rule is a map"));
  EXPECT_THAT(mistake(""), HasSubstr("the one key 'rules'"));
  EXPECT_THAT(mistake("rules: []\nmore: 1\n"), HasSubstr("the one key 'rules'"));
  EXPECT_THAT(mistake("rules:\n  - {allow: request\n"), HasSubstr("this is not YAML"));
}

TEST(RuleFileTest, ABadFileKeepsTheOldRules) {
  char path[] = "/tmp/patchbay-rules-XXXXXX";
  ::close(::mkstemp(path));
  const auto write = [&path](const char* text) { std::ofstream(path) << text; };
  write("rules: [{allow: request}]");
  auto file = RuleFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_TRUE(file->rules().allow(Verb::request, asked("x")));
  write("rules: [{alow: request}]");
  EXPECT_FALSE(file->reload());
  EXPECT_TRUE(file->rules().allow(Verb::request, asked("x")));
  write("rules: []");
  EXPECT_TRUE(file->reload());
  EXPECT_FALSE(file->rules().allow(Verb::request, asked("x")));
  ::unlink(path);
  EXPECT_FALSE(file->reload());
  EXPECT_FALSE(RuleFile::open(path));
}

}  // namespace
}  // namespace mesh
