// SPDX-License-Identifier: Apache-2.0
#include "registry/sqlite_registry.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "mesh/chains/registry.h"

namespace registry {
namespace {

using base::Code;
using mesh::Endpoints;
using mesh::NetworkService;
using mesh::NetworkServiceEndpoint;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

NetworkServiceEndpoint endpoint(const std::string& name) {
  NetworkServiceEndpoint result;
  result.set_name(name);
  result.set_url("tcp://10.0.0.1:5001");
  result.add_network_service_names("icmp");
  return result;
}

template <typename T>
base::Task<void> store_result(base::Task<T> task, std::optional<T>* into) {
  auto value = co_await task;
  into->emplace(std::move(value));
}

// Runs the loop until the task is done; gives up loudly.
template <typename T>
T run(base::EventLoop& loop, base::Task<T> task) {
  std::optional<T> result;
  base::spawn_detached(store_result<T>(std::move(task), &result));
  const auto deadline = loop.now() + 30s;
  while (!result && loop.now() < deadline) loop.run_for(1ms);
  if (!result) {
    ADD_FAILURE() << "a task did not end within 30 s";
    std::abort();
  }
  return std::move(*result);
}

class SqliteRegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "pbt-registry-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    path = folder / "sub" / "registry.sqlite";
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::unique_ptr<SqliteRegistry> open() {
    auto opened = SqliteRegistry::open(loop, path);
    EXPECT_TRUE(opened.has_value()) << opened.error().message();
    return opened ? std::move(*opened) : nullptr;
  }
  mesh::RegistryCall call() { return {loop, base::kNoDeadline, base::StopToken()}; }

  std::vector<std::string> names(mesh::EndpointRegistry& registry) {
    auto context = call();
    std::vector<std::string> all;
    const auto found_all = run(loop, mesh::find_all<Endpoints>(registry, context, {})).value();
    for (const auto& found : found_all) {
      all.push_back(found.response.network_service_endpoint().name());
    }
    return all;
  }

  base::EventLoop loop;
  std::filesystem::path folder;
  std::filesystem::path path;
};

TEST_F(SqliteRegistryTest, SurvivesAReopening) {
  auto context = call();
  {
    auto store = open();
    NetworkService service;
    service.set_name("icmp");
    service.set_payload("ETHERNET");
    ASSERT_TRUE(run(loop, store->services().enroll(context, service)));
    auto a = endpoint("a");
    mesh::set_time(a.mutable_expiration_time(), loop.wall_now() + 30s);
    ASSERT_TRUE(run(loop, store->endpoints().enroll(context, a)));
    ASSERT_TRUE(run(loop, store->endpoints().enroll(context, endpoint("b"))));
    ASSERT_TRUE(run(loop, store->endpoints().withdraw(context, endpoint("b"))));
  }
  auto store = open();
  const auto services = run(loop, mesh::find_all<mesh::Services>(store->services(), context, {})).value();
  ASSERT_EQ(services.size(), 1U);
  EXPECT_EQ(services[0].response.network_service().payload(), "ETHERNET");
  const auto endpoints = run(loop, mesh::find_all<Endpoints>(store->endpoints(), context, {})).value();
  ASSERT_EQ(endpoints.size(), 1U);
  EXPECT_EQ(endpoints[0].response.network_service_endpoint().name(), "a");
  EXPECT_TRUE(endpoints[0].response.network_service_endpoint().has_expiration_time());
}

TEST_F(SqliteRegistryTest, WhatExpiredWhileItWasDownIsDroppedAndItsWatchersAreTold) {
  auto context = call();
  {
    auto store = open();
    auto dead = endpoint("dead");
    mesh::set_time(dead.mutable_expiration_time(), loop.wall_now() - 1s);
    auto alive = endpoint("alive");
    mesh::set_time(alive.mutable_expiration_time(), loop.wall_now() + 40s);
    ASSERT_TRUE(run(loop, store->endpoints().enroll(context, dead)));
    ASSERT_TRUE(run(loop, store->endpoints().enroll(context, alive)));
  }
  auto store = open();
  mesh::PlainTokens tokens(loop, "spiffe://test/registry", 10min);
  mesh::RegistryChain chain({loop, tokens, store->services(), store->endpoints()});
  Endpoints::Query query;
  query.set_watch(true);
  auto watch = run(loop, chain.endpoints().find(context, query)).value();
  ASSERT_TRUE(run(loop, chain.start()));
  std::vector<std::string> said;
  for (int i = 0; i < 3; ++i) {
    const auto found = run(loop, watch->next()).value().value();
    said.push_back((found.response.deleted() ? "-" : "") + found.response.network_service_endpoint().name());
  }
  EXPECT_THAT(said, ElementsAre("alive", "dead", "-dead"));
  EXPECT_THAT(names(store->endpoints()), ElementsAre("alive"));
}

TEST_F(SqliteRegistryTest, KilledWhileRegisteringItKeepsEveryAcknowledgedRegistration) {
  std::array<int, 2> acknowledged{};
  ASSERT_EQ(::pipe(acknowledged.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(acknowledged[0]);
    base::EventLoop mine;
    auto store = SqliteRegistry::open(mine, path);
    if (!store) ::_exit(1);
    mesh::RegistryCall context(mine, base::kNoDeadline, base::StopToken());
    for (std::uint32_t i = 0;; ++i) {
      if (!run(mine, (*store)->endpoints().enroll(context, endpoint(fmt::format("e{:06}", i))))) ::_exit(1);
      if (::write(acknowledged[1], &i, sizeof i) != sizeof i) ::_exit(1);
    }
  }
  ::close(acknowledged[1]);
  std::uint32_t last = 0;
  for (int i = 0; i < 50; ++i)
    ASSERT_EQ(::read(acknowledged[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  while (::read(acknowledged[0], &last, sizeof last) == static_cast<ssize_t>(sizeof last)) {
  }
  ::close(acknowledged[0]);

  auto store = open();
  const auto kept = names(store->endpoints());
  ASSERT_GE(kept.size(), last + 1U);
  for (std::uint32_t i = 0; i <= last; ++i) EXPECT_EQ(kept[i], fmt::format("e{:06}", i));
}

TEST_F(SqliteRegistryTest, ABurstIsWrittenInFewBatches) {
  auto store = open();
  auto context = call();
  std::vector<std::optional<base::Result<NetworkServiceEndpoint>>> results(200);
  for (std::size_t i = 0; i < results.size(); ++i) {
    base::spawn_detached(
        store_result(store->endpoints().enroll(context, endpoint("e" + std::to_string(i))), &results[i]));
  }
  const auto deadline = loop.now() + 30s;
  while (loop.now() < deadline && !std::ranges::all_of(results, [](const auto& r) { return r.has_value(); })) {
    loop.run_for(1ms);
  }
  for (const auto& result : results) ASSERT_TRUE(result && *result);
  EXPECT_EQ(names(store->endpoints()).size(), 200U);
  EXPECT_LE(store->batches(), 2U);
}

TEST_F(SqliteRegistryTest, ASecondProcessIsRefusedInOneSentence) {
  auto store = open();
  std::array<int, 2> answer{};
  ASSERT_EQ(::pipe(answer.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto file = RegistryFile::open(path);
    const std::string text = file ? "opened" : file.error().message();
    ::_exit(::write(answer[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(answer[1]);
  std::string text(1024, '\0');
  const auto size = ::read(answer[0], text.data(), text.size());
  ::close(answer[0]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_GT(size, 0);
  text.resize(static_cast<std::size_t>(size));
  EXPECT_THAT(text, HasSubstr("in use by another process"));
  EXPECT_THAT(text, HasSubstr(path.string()));
}

TEST_F(SqliteRegistryTest, ADamagedFileIsRefusedAndLeftAsItIs) {
  std::filesystem::create_directories(path.parent_path());
  const std::string garbage(8192, 'x');
  std::ofstream(path) << garbage;
  const auto opened = SqliteRegistry::open(loop, path);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Code::data_loss);
  EXPECT_THAT(opened.error().message(), HasSubstr(path.string()));
  EXPECT_THAT(opened.error().message(), HasSubstr("move it away"));
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), garbage);
}

TEST_F(SqliteRegistryTest, PagesOverwrittenInTheMiddleAreNoticed) {
  auto context = call();
  {
    auto store = open();
    for (int i = 0; i < 300; ++i)
      ASSERT_TRUE(run(loop, store->endpoints().enroll(context, endpoint("e" + std::to_string(i)))));
  }
  const auto size = std::filesystem::file_size(path);
  ASSERT_GT(size, 16384U);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(8192);
    file << std::string(static_cast<std::size_t>(size) - 8192, '\xFF');
  }
  const auto opened = SqliteRegistry::open(loop, path);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Code::data_loss);
}

TEST_F(SqliteRegistryTest, ARecordThatCannotBeReadIsDamage) {
  {
    auto file = RegistryFile::open(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE((*file)->apply({Change(Table::endpoints, "a", "\xFF\xFF\xFF")}));
  }
  const auto opened = SqliteRegistry::open(loop, path);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("the record of endpoint a cannot be read"));
}

TEST_F(SqliteRegistryTest, SomebodyElsesDatabaseAndALaterLayoutAreRefused) {
  const auto make = [this](const char* statements) {
    std::filesystem::create_directories(path.parent_path());
    std::filesystem::remove(path);
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(database, statements, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  };
  make("CREATE TABLE mail(id INTEGER)");
  auto opened = SqliteRegistry::open(loop, path);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("not a registry's"));
  make("CREATE TABLE services(name TEXT); PRAGMA application_id=1348617063; PRAGMA user_version=2");
  opened = SqliteRegistry::open(loop, path);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("has layout 2, this version reads 1"));
}

TEST_F(SqliteRegistryTest, AFolderThatCannotBeMadeIsNamed) {
  std::ofstream(folder / "file") << "x";
  const auto opened = RegistryFile::open(folder / "file" / "registry.sqlite");
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("PATCHBAY_REGISTRY_FILE"));
}

TEST_F(SqliteRegistryTest, TwoStoresOfOneProcessOnOneFileAreRefusedToo) {
  auto store = open();
  const auto second = RegistryFile::open(path);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::failed_precondition);
}

}  // namespace
}  // namespace registry
