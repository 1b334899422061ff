// SPDX-License-Identifier: Apache-2.0
#include "base/stop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

namespace base {
namespace {

using testing::ElementsAre;

TEST(Stop, CallbacksRunOnceInOrderOfRegistration) {
  StopSource source;
  std::vector<int> heard;
  const auto one = source.token().on_stop([&] { heard.push_back(1); });
  const auto two = source.token().on_stop([&] { heard.push_back(2); });
  source.request_stop();
  source.request_stop();
  EXPECT_THAT(heard, ElementsAre(1, 2));
  EXPECT_TRUE(source.stopped());
}

TEST(Stop, LateCallbackRunsAtOnce) {
  StopSource source;
  source.request_stop();
  bool heard = false;
  const auto registration = source.token().on_stop([&] { heard = true; });
  EXPECT_TRUE(heard);
}

TEST(Stop, DefaultTokenNeverStops) {
  const StopToken token;
  const auto registration = token.on_stop([] { FAIL(); });
  EXPECT_FALSE(token.stopped());
}

TEST(Stop, DroppedRegistrationIsNotCalled) {
  StopSource source;
  bool heard = false;
  {
    const auto registration = source.token().on_stop([&] { heard = true; });
  }
  source.request_stop();
  EXPECT_FALSE(heard);
}

TEST(Stop, AssignedRegistrationForgetsItsOldCallback) {
  StopSource source;
  std::vector<int> heard;
  auto registration = source.token().on_stop([&] { heard.push_back(1); });
  registration = source.token().on_stop([&] { heard.push_back(2); });
  source.request_stop();
  EXPECT_THAT(heard, ElementsAre(2));
}

TEST(Stop, CallbackMayDropItsOwnRegistrationAndOthers) {
  StopSource source;
  bool second_heard = false;
  std::optional<StopRegistration> one;
  std::optional<StopRegistration> two;
  one = source.token().on_stop([&] {
    one.reset();
    two.reset();
  });
  two = source.token().on_stop([&] { second_heard = true; });
  source.request_stop();
  EXPECT_FALSE(second_heard);
}

TEST(Stop, CallbackMayRegisterAnother) {
  StopSource source;
  std::vector<int> heard;
  const auto token = source.token();
  const auto one = token.on_stop([&] {
    const auto inner = token.on_stop([&] { heard.push_back(2); });
    heard.push_back(1);
  });
  source.request_stop();
  EXPECT_THAT(heard, ElementsAre(2, 1));
}

TEST(Stop, CallbackMayDestroyTheSource) {
  auto source = std::make_unique<StopSource>();
  const auto token = source->token();
  bool heard = false;
  const auto one = token.on_stop([&] { source.reset(); });
  const auto two = token.on_stop([&] { heard = true; });
  source->request_stop();
  EXPECT_TRUE(heard);
}

TEST(Stop, TokenAndRegistrationOutliveTheSource) {
  auto source = std::make_unique<StopSource>();
  const auto token = source->token();
  auto registration = token.on_stop([] {});
  source.reset();
  EXPECT_FALSE(token.stopped());
}

}  // namespace
}  // namespace base
