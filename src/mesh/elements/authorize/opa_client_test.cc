// SPDX-License-Identifier: Apache-2.0
// Against servers that answer a question with bytes of the test's choosing.
#include "mesh/elements/authorize/opa_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace mesh {
namespace {

using base::Code;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

// Takes one connection and answers its first question; with nothing: keeps the asker waiting until it goes.
class Server {
 public:
  explicit Server(std::string answer) : answer_(std::move(answer)), listening_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listening_.get(), 8);
    ::getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    ::shutdown(listening_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}/v1/data/nsm/valid", port_); }
  std::string question;

 private:
  void serve() {
    const base::UniqueFd peer(::accept(listening_.get(), nullptr, nullptr));
    char bytes[65536];
    while (!question.ends_with("}}")) {
      const auto got = ::recv(peer.get(), bytes, sizeof bytes, 0);
      if (got <= 0) return;
      question.append(bytes, static_cast<std::size_t>(got));
    }
    if (!answer_.empty()) ::send(peer.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
    while (answer_.empty() && ::recv(peer.get(), bytes, sizeof bytes, 0) > 0) {
    }
  }
  const std::string answer_;
  const base::UniqueFd listening_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

std::string http(const std::string& body, const std::string& status = "200 OK") {
  return fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", status, body.size(), body);
}

base::Result<bool> ask(const std::string& url, base::Duration patience = 5s) {
  base::EventLoop loop;
  auto client = OpaClient::make(loop, url, patience);
  if (!client) return std::unexpected(client.error());
  struct Asking {
    static base::Task<void> run(OpaClient& opa, std::optional<base::Result<bool>>* into) {
      auto decided = co_await opa.decide(R"({"index":1})");
      into->emplace(std::move(decided));
    }
  };
  std::optional<base::Result<bool>> decided;
  base::spawn_detached(Asking::run(**client, &decided));
  EXPECT_TRUE(loop.run_until([&decided] { return decided.has_value(); }, 20s));
  return *decided;
}

TEST(OpaClientTest, AsksByTheDataApiAndTakesYesAndNo) {
  Server yes(http(R"({"result":true})"));
  EXPECT_EQ(ask(yes.url()), true);
  EXPECT_THAT(yes.question, HasSubstr("POST /v1/data/nsm/valid HTTP/1.1\r\n"));
  EXPECT_THAT(yes.question, EndsWith("\r\n\r\n{\"input\":{\"index\":1}}"));
  Server no(http(R"({"result":false})"));
  EXPECT_EQ(ask(no.url()), false);
}

TEST(OpaClientTest, AnythingElseIsAnError) {
  for (const char* body : {"", "{}", "[]", "true", R"({"result":"true"})", R"({"result":1})", R"({"result":null})",
                           R"({"result":[true]})", R"({"Result":true})", R"({"result":true)"}) {
    Server server(http(body));
    const auto decided = ask(server.url());
    ASSERT_FALSE(decided) << body;
    EXPECT_EQ(decided.error().code(), Code::failed_precondition) << body;
  }
  Server broken(http(R"({"result":true})", "500 Internal Server Error"));
  EXPECT_EQ(ask(broken.url()).error().code(), Code::unavailable);
  Server endless(http(R"({"result":true})" + std::string(100'000, ' ')));
  EXPECT_EQ(ask(endless.url()).error().code(), Code::unavailable);
  Server elsewhere("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(ask(elsewhere.url()).error().code(), Code::unavailable);
}

TEST(OpaClientTest, OneThatIsDownIsAnError) {
  const auto decided = ask("http://127.0.0.1:1/v1/data/nsm/valid");
  ASSERT_FALSE(decided);
  EXPECT_EQ(decided.error().code(), Code::unavailable);
  EXPECT_THAT(decided.error().message(), HasSubstr("did not answer"));
}

TEST(OpaClientTest, ASlowOneIsNotWaitedFor) {
  Server slow("");
  EXPECT_EQ(OpaClient::kPatience, 2s);
  EXPECT_EQ(ask(slow.url(), 100ms).error().code(), Code::unavailable);
}

TEST(OpaClientTest, WhatWaitsBehindASlowQuestionGivesUpToo) {
  Server slow("");
  base::EventLoop loop;
  auto client = OpaClient::make(loop, slow.url(), 100ms);
  struct Asking {
    static base::Task<void> run(OpaClient& opa, std::vector<Code>* into) {
      auto decided = co_await opa.decide(R"({"index":1})");
      into->push_back(decided.error().code());
    }
  };
  std::vector<Code> codes;
  for (int i = 0; i < 3; ++i) base::spawn_detached(Asking::run(**client, &codes));
  EXPECT_TRUE(loop.run_until([&codes] { return codes.size() == 3; }, 20s));
  EXPECT_THAT(codes, ::testing::ElementsAre(Code::unavailable, Code::deadline_exceeded, Code::deadline_exceeded));
}

TEST(OpaClientTest, OnlyHttpWillDo) {
  base::EventLoop loop;
  for (const char* url : {"", "file:///etc/passwd", "localhost:8181", "gopher://x"}) {
    EXPECT_FALSE(OpaClient::make(loop, url)) << url;
  }
}

}  // namespace
}  // namespace mesh
