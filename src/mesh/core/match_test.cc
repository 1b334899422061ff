// SPDX-License-Identifier: Apache-2.0
#include "mesh/core/match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(Template, FormsAndTheirValues) {
  const Labels client{{"app", "web"}, {"nodeName", "node-1"}, {"a-b", "dash"}, {"_x9", "odd"}};
  for (const auto& [text, value] : std::vector<std::pair<std::string, std::string>>{
           {"", ""},
           {"plain", "plain"},
           {"{{.app}}", "web"},
           {"{{ .app }}", "web"},
           {"{{\t.app\n}}", "web"},
           {"{{._x9}}", "odd"},
           {"x-{{.app}}-{{ .nodeName }}!", "x-web-node-1!"},
           {"{{ .missing }}", "<no value>"},
           {"{{ index . \"nodeName\" }}", "node-1"},
           {"{{index . \"a-b\"}}", "dash"},
           {"{{ index . `a-b` }}", "dash"},
           {"{{ index . \"missing\" }}", ""},
           {"a {{- .app -}} b", "awebb"},
           {"a {{.app -}} b", "a webb"},
           {"a {{- .app}} b", "aweb b"},
           {"}} {{.app}}", "}} web"},
       }) {
    EXPECT_EQ(expand_template(text, client), value) << text;
  }
}

TEST(Template, WhatCannotBeReadStandsForItself) {
  const Labels client{{"app", "web"}};
  for (const std::string text : {"{{",
                                 "{{.app",
                                 "{{.app}",
                                 "{{.}}",
                                 "{{ . app }}",
                                 "{{ .app.x }}",
                                 "{{ .my-key }}",
                                 "{{ app }}",
                                 "{{ .9 }}",
                                 "{{}}",
                                 "{{ index .app }}",
                                 "{{ index . }}",
                                 "{{ index . app }}",
                                 "{{ index . \"app }}",
                                 "{{index.\"app\"}}",
                                 "{{ index . \"a\\n\" }}",
                                 "{{ .app | printf }}",
                                 "{{.app}} {{",
                                 "{{-.app}}",
                                 "{{.app-}}",
                                 "{{{.app}}}"}) {
    EXPECT_EQ(expand_template(text, client), text);
  }
}

TEST(Template, ExpandedTextIsNotExpandedAgain) {
  EXPECT_EQ(expand_template("{{.a}}", {{"a", "{{.b}}"}, {"b", "x"}}), "{{.b}}");
}

TEST(Fits, EverySelectorLabelMustBeBorne) {
  const Labels labels{{"a", "1"}, {"b", "2"}};
  EXPECT_TRUE(fits(labels, {}, {}));
  EXPECT_TRUE(fits(labels, {{"a", "1"}}, {}));
  EXPECT_TRUE(fits(labels, labels, {}));
  EXPECT_FALSE(fits(labels, {{"a", "2"}}, {}));
  EXPECT_FALSE(fits(labels, {{"c", "1"}}, {}));
  EXPECT_FALSE(fits({}, {{"a", "1"}}, {}));
}

TEST(Fits, ValueIsTakenLiterallyOrExpanded) {
  EXPECT_TRUE(fits({{"a", "{{.x}}"}}, {{"a", "{{.x}}"}}, {{"x", "1"}}));
  EXPECT_TRUE(fits({{"a", "1"}}, {{"a", "{{.x}}"}}, {{"x", "1"}}));
  EXPECT_FALSE(fits({{"a", "2"}}, {{"a", "{{.x}}"}}, {{"x", "1"}}));
}

TEST(Fits, AbsentLabelEqualsTheEmptyValueUnlessLabelsAreTooFew) {
  EXPECT_TRUE(fits({{"other", "1"}}, {{"a", ""}}, {}));
  EXPECT_FALSE(fits({}, {{"a", ""}}, {}));
}

NetworkServiceEndpoint endpoint(const std::string& name, const Labels& labels, const std::string& service = "svc") {
  NetworkServiceEndpoint made;
  made.set_name(name);
  made.add_network_service_names(service);
  auto& stored = *(*made.mutable_network_service_labels())[service].mutable_labels();
  for (const auto& [key, value] : labels) stored[key] = value;
  return made;
}

registry::Match& add_match(NetworkService& service, const Labels& source) {
  auto& match = *service.add_matches();
  for (const auto& [key, value] : source) (*match.mutable_source_selector())[key] = value;
  return match;
}

void add_route(registry::Match& match, const Labels& destination) {
  auto& route = *match.add_routes();
  for (const auto& [key, value] : destination) (*route.mutable_destination_selector())[key] = value;
}

void demand(registry::Match& match, const Labels& labels) {
  match.mutable_metadata();
  for (const auto& [key, value] : labels) (*match.mutable_metadata()->mutable_labels())[key] = value;
}

std::vector<std::string> names(const std::vector<NetworkServiceEndpoint>& endpoints) {
  std::vector<std::string> list;
  for (const auto& one : endpoints) list.push_back(one.name());
  return list;
}

class MatchEndpoints : public testing::Test {
 protected:
  MatchEndpoints() { service_.set_name("svc"); }
  std::vector<std::string> chosen(const Labels& client) const {
    return names(match_endpoints(client, service_, endpoints_));
  }

  NetworkService service_;
  std::vector<NetworkServiceEndpoint> endpoints_{endpoint("firewall", {{"app", "firewall"}}),
                                                 endpoint("gateway", {{"app", "gateway"}, {"zone", "1"}}),
                                                 endpoint("bare", {})};
};

TEST_F(MatchEndpoints, ServiceWithoutMatchesTakesAll) {
  EXPECT_THAT(chosen({}), ElementsAre("firewall", "gateway", "bare"));
}

TEST_F(MatchEndpoints, FirstFittingMatchDecides) {
  add_route(add_match(service_, {{"app", "firewall"}}), {{"app", "gateway"}});
  add_route(add_match(service_, {}), {{"app", "firewall"}});
  EXPECT_THAT(chosen({}), ElementsAre("firewall"));
  EXPECT_THAT(chosen({{"app", "firewall"}, {"x", "y"}}), ElementsAre("gateway"));
}

TEST_F(MatchEndpoints, RoutesComeBeforeEndpointsAndMayRepeatThem) {
  auto& match = add_match(service_, {});
  add_route(match, {{"app", "gateway"}});
  add_route(match, {});
  EXPECT_THAT(chosen({}), ElementsAre("gateway", "firewall", "gateway", "bare"));
}

TEST_F(MatchEndpoints, SelectorsAreExpandedFromTheClientsLabels) {
  add_route(add_match(service_, {{"app", "{{ .wants }}"}}), {{"zone", "{{ index . \"zone\" }}"}});
  EXPECT_THAT(chosen({{"app", "x"}, {"wants", "x"}, {"zone", "1"}}), ElementsAre("gateway"));
  EXPECT_THAT(chosen({{"app", "x"}, {"wants", "y"}, {"zone", "1"}}), IsEmpty());
}

TEST_F(MatchEndpoints, NoCandidatesEndsItUnlessFallthrough) {
  auto& first = add_match(service_, {});
  add_route(first, {{"app", "absent"}});
  add_route(add_match(service_, {}), {{"app", "firewall"}});
  EXPECT_THAT(chosen({}), IsEmpty());
  service_.mutable_matches(0)->set_fallthrough(true);
  EXPECT_THAT(chosen({}), ElementsAre("firewall"));
}

TEST_F(MatchEndpoints, FallthroughDoesNotPassFoundCandidates) {
  auto& first = add_match(service_, {});
  first.set_fallthrough(true);
  add_route(first, {{"app", "gateway"}});
  add_route(add_match(service_, {}), {{"app", "firewall"}});
  EXPECT_THAT(chosen({}), ElementsAre("gateway"));
}

TEST_F(MatchEndpoints, NothingFittingLeavesNone) {
  add_route(add_match(service_, {{"app", "x"}}), {});
  EXPECT_THAT(chosen({}), IsEmpty());
}

TEST_F(MatchEndpoints, MatchAboutForwardersAloneTakesAll) {
  demand(add_match(service_, {}), {{"type", "sriov"}});
  EXPECT_THAT(chosen({}), ElementsAre("firewall", "gateway", "bare"));
}

TEST_F(MatchEndpoints, MatchWithNeitherRoutesNorMetadataTakesNone) {
  add_match(service_, {});
  EXPECT_THAT(chosen({}), IsEmpty());
}

TEST_F(MatchEndpoints, LabelsUnderAnotherServiceDoNotCount) {
  endpoints_ = {endpoint("elsewhere", {{"app", "gateway"}}, "other")};
  add_route(add_match(service_, {}), {{"app", "gateway"}});
  EXPECT_THAT(chosen({}), IsEmpty());
}

class MatchForwarders : public testing::Test {
 protected:
  MatchForwarders() { service_.set_name("svc"); }
  std::vector<std::string> chosen(const Labels& client) const {
    return names(match_forwarders(client, service_, "forwarder", forwarders_));
  }

  NetworkService service_;
  std::vector<NetworkServiceEndpoint> forwarders_{
      endpoint("vpp", {{"p2p", "true"}, {"nodeName", "n1"}}, "forwarder"),
      endpoint("sriov", {{"type", "sriov"}, {"nodeName", "n1"}}, "forwarder"),
      endpoint("foreign", {{"p2p", "true"}}, "svc")};
};

TEST_F(MatchForwarders, ServiceWithoutMatchesTakesAll) {
  EXPECT_THAT(chosen({}), ElementsAre("vpp", "sriov", "foreign"));
}

TEST_F(MatchForwarders, MatchWithoutMetadataDemandsPointToPoint) {
  add_match(service_, {});
  EXPECT_THAT(chosen({}), ElementsAre("vpp"));
  service_.mutable_matches(0)->mutable_metadata();
  EXPECT_THAT(chosen({}), ElementsAre("vpp"));
  EXPECT_THAT(required_forwarder_labels(service_.matches(0)), ElementsAre(Pair("p2p", "true")));
}

TEST_F(MatchForwarders, MetadataNamesTheLabels) {
  demand(add_match(service_, {}), {{"type", "sriov"}, {"nodeName", "{{ .nodeName }}"}});
  EXPECT_THAT(chosen({{"nodeName", "n1"}}), ElementsAre("sriov"));
  EXPECT_THAT(chosen({{"nodeName", "n2"}}), IsEmpty());
}

TEST_F(MatchForwarders, NoCandidatesEndsItUnlessFallthrough) {
  demand(add_match(service_, {}), {{"type", "absent"}});
  add_match(service_, {});
  EXPECT_THAT(chosen({}), IsEmpty());
  service_.mutable_matches(0)->set_fallthrough(true);
  EXPECT_THAT(chosen({}), ElementsAre("vpp"));
}

TEST_F(MatchForwarders, MatchForOtherClientsIsPassedOver) {
  demand(add_match(service_, {{"app", "x"}}), {{"type", "sriov"}});
  EXPECT_THAT(chosen({}), IsEmpty());
  EXPECT_THAT(chosen({{"app", "x"}}), ElementsAre("sriov"));
}

TEST(EndpointQuery, EmptyMatchesEverything) {
  EXPECT_TRUE(matches(NetworkServiceEndpoint(), endpoint("nse", {{"a", "1"}})));
  EXPECT_TRUE(matches(NetworkServiceEndpoint(), NetworkServiceEndpoint()));
}

TEST(EndpointQuery, NameIsExact) {
  NetworkServiceEndpoint query;
  query.set_name("nse");
  EXPECT_TRUE(matches(query, endpoint("nse", {})));
  EXPECT_FALSE(matches(query, endpoint("nse-1", {})));
}

TEST(EndpointQuery, UrlIsPartOfTheStoredOne) {
  auto stored = endpoint("nse", {});
  stored.set_url("tcp://10.0.0.1:5001");
  NetworkServiceEndpoint query;
  query.set_url("10.0.0.1:500");
  EXPECT_TRUE(matches(query, stored));
  query.set_url("tcp://10.0.0.2");
  EXPECT_FALSE(matches(query, stored));
}

TEST(EndpointQuery, EveryServiceNameIsContained) {
  auto stored = endpoint("nse", {}, "one");
  stored.add_network_service_names("two");
  NetworkServiceEndpoint query;
  query.add_network_service_names("two");
  EXPECT_TRUE(matches(query, stored));
  query.add_network_service_names("three");
  EXPECT_FALSE(matches(query, stored));
}

TEST(EndpointQuery, LabelsAreContainedServiceByService) {
  const auto stored = endpoint("nse", {{"a", "1"}, {"b", ""}}, "one");
  EXPECT_TRUE(matches(endpoint("nse", {{"a", "1"}}, "one"), stored));
  EXPECT_TRUE(matches(endpoint("nse", {{"b", ""}}, "one"), stored));
  EXPECT_FALSE(matches(endpoint("nse", {{"a", "2"}}, "one"), stored));
  EXPECT_FALSE(matches(endpoint("nse", {{"c", ""}}, "one"), stored));
  NetworkServiceEndpoint query;
  (*query.mutable_network_service_labels())["two"];
  EXPECT_FALSE(matches(query, stored));
}

TEST(EndpointQuery, ExpiryIsEqualToTheSecond) {
  auto stored = endpoint("nse", {});
  stored.mutable_expiration_time()->set_seconds(10);
  stored.mutable_expiration_time()->set_nanos(5);
  NetworkServiceEndpoint query;
  query.mutable_expiration_time()->set_seconds(10);
  EXPECT_TRUE(matches(query, stored));
  query.mutable_expiration_time()->set_seconds(11);
  EXPECT_FALSE(matches(query, stored));
}

TEST(ServiceQuery, NameAndPayloadAreExact) {
  NetworkService stored;
  stored.set_name("svc");
  stored.set_payload("IP");
  NetworkService query;
  EXPECT_TRUE(matches(query, stored));
  query.set_name("svc");
  query.set_payload("IP");
  EXPECT_TRUE(matches(query, stored));
  query.set_payload("ETHERNET");
  EXPECT_FALSE(matches(query, stored));
  query.set_payload("");
  query.set_name("sv");
  EXPECT_FALSE(matches(query, stored));
}

TEST(ServiceQuery, MatchesAreEqualInOrder) {
  NetworkService stored;
  add_route(add_match(stored, {{"a", "1"}, {"b", "2"}}), {{"c", "3"}});
  add_match(stored, {});
  NetworkService query = stored;
  EXPECT_TRUE(matches(query, stored));
  query.mutable_matches()->SwapElements(0, 1);
  EXPECT_FALSE(matches(query, stored));
  query = stored;
  query.mutable_matches()->RemoveLast();
  EXPECT_FALSE(matches(query, stored));
  query = stored;
  query.mutable_matches(1)->mutable_metadata();
  EXPECT_FALSE(matches(query, stored));
}

}  // namespace
}  // namespace mesh
