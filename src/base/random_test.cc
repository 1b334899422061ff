// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <set>

namespace base {
namespace {

// Gives the numbers it was made with, then fails the test's expectations by repeating the last.
class ListedRandom final : public Random {
 public:
  explicit ListedRandom(std::vector<std::uint64_t> numbers) : numbers_(std::move(numbers)) {}
  std::uint64_t next() override { return numbers_[std::min(used_++, numbers_.size() - 1)]; }
  std::size_t used() const { return used_; }

 private:
  std::vector<std::uint64_t> numbers_;
  std::size_t used_ = 0;
};

TEST(SeededRandom, IsSplitmix64) {
  SeededRandom random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317ULL);
  EXPECT_EQ(random.next(), 3203168211198807973ULL);
}

TEST(SeededRandom, SameSeedSameNumbers) {
  SeededRandom one(7);
  SeededRandom two(7);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(one.next(), two.next());
}

TEST(SystemRandom, DoesNotRepeat) {
  SystemRandom random;
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.next());
  EXPECT_EQ(seen.size(), 1000U);
}

TEST(Uniform, StaysBelowTheBoundAndReachesEachValue) {
  SeededRandom random(1);
  std::array<int, 7> counts{};
  for (int i = 0; i < 7000; ++i) ++counts.at(uniform(random, 7));
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);
}

TEST(Uniform, NumbersThatWouldBiasAreDrawnAgain) {
  ListedRandom random({UINT64_MAX, UINT64_MAX - 1, 12});
  EXPECT_EQ(uniform(random, 10), 2U);
  EXPECT_EQ(random.used(), 3U);
}

TEST(Uniform, BoundOfOneIsZero) {
  SeededRandom random(1);
  EXPECT_EQ(uniform(random, 1), 0U);
}

TEST(Uuid4, VersionAndVariantAreSetWhateverIsDrawn) {
  ListedRandom ones({UINT64_MAX});
  EXPECT_EQ(uuid4(ones), "ffffffff-ffff-4fff-bfff-ffffffffffff");
  ListedRandom zeros({0});
  EXPECT_EQ(uuid4(zeros), "00000000-0000-4000-8000-000000000000");
}

TEST(Base62, IsLettersAndDigitsOfTheWantedLength) {
  SeededRandom random(3);
  EXPECT_EQ(base62(random, 0), "");
  EXPECT_THAT(base62(random, 500), testing::MatchesRegex("[0-9A-Za-z]*"));
  EXPECT_EQ(base62(random, 500).size(), 500U);
}

}  // namespace
}  // namespace base
