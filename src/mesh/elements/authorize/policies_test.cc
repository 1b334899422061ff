// SPDX-License-Identifier: Apache-2.0
// Masks; what the policies refuse is in tests/attacks.
#include "mesh/elements/authorize/policies.h"

#include <gmock/gmock.h>

#include "fakes/manual_scheduler.h"

namespace mesh {
namespace {

using base::Code;
using ::testing::HasSubstr;

TEST(PoliciesTest, TheDefaultMasksChooseNsmsSets) {
  const auto server = parse_policies(kRegistryServerMasks);
  ASSERT_TRUE(server);
  EXPECT_EQ(*server, (PolicySet{Policy::tokens_valid, Policy::tokens_expired, Policy::tokens_chained,
                                Policy::client_allowed, Policy::prev_token_signed}));
  const auto client = parse_policies(kRegistryClientMasks);
  ASSERT_TRUE(client);
  EXPECT_EQ(*client, (PolicySet{Policy::tokens_valid, Policy::tokens_expired, Policy::tokens_chained,
                                Policy::client_allowed, Policy::next_token_signed}));
}

TEST(PoliciesTest, OneIsChosenByItsName) {
  EXPECT_EQ(parse_policies("etc/nsm/opa/common/tokens_valid.rego"), PolicySet{Policy::tokens_valid});
  EXPECT_EQ(parse_policies(" monitor/service_connection , tokens_valid"),
            (PolicySet{Policy::service_connection, Policy::tokens_valid}));
}

TEST(PoliciesTest, EmptyMeansNone) {
  EXPECT_EQ(parse_policies(""), PolicySet());
  EXPECT_EQ(parse_policies(" , "), PolicySet());
}

TEST(PoliciesTest, AMaskThatChoosesNothingIsRefused) {
  const auto refused = parse_policies("etc/nsm/opa/common/.*.rego,etc/nsm/opa/comon/.*.rego");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::invalid_argument);
  EXPECT_THAT(refused.error().message(), HasSubstr("mask etc/nsm/opa/comon/.*.rego chooses nothing"));
}

TEST(PoliciesTest, AFileOnDiskIsRefused) {
  const auto refused = parse_policies("/proc/self/exe");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("Rego is not interpreted here"));
}

TEST(PoliciesTest, ABrokenExpressionIsRefused) {
  const auto refused = parse_policies("etc/(");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("is no regular expression"));
}

TEST(PoliciesTest, NothingIsAskedOfAnEmptyPath) {
  fakes::ManualScheduler scheduler;
  identity::TokenVerifier verifier(scheduler);
  const PolicySet common{Policy::tokens_valid, Policy::tokens_expired, Policy::tokens_chained};
  EXPECT_TRUE(check_tokens(common, {}, verifier, scheduler.wall_now()));
  EXPECT_FALSE(check_tokens({Policy::prev_token_signed}, {}, verifier, scheduler.wall_now()));
  EXPECT_FALSE(check_tokens({Policy::next_token_signed}, {}, verifier, scheduler.wall_now()));
}

TEST(PoliciesTest, AReasonNeverQuotesATokensText) {
  fakes::ManualScheduler scheduler;
  identity::TokenVerifier verifier(scheduler);
  CheckedPath path;
  path.tokens = {"verysecret"};
  path.names = {"nsc"};
  const auto refused = check_tokens(kConnectionServerPolicies, path, verifier, scheduler.wall_now());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("tokens_valid: segment 0 (nsc): "));
  EXPECT_THAT(refused.error().message(), ::testing::Not(HasSubstr("verysecret")));
}

}  // namespace
}  // namespace mesh
