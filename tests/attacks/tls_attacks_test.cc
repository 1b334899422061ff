// SPDX-License-Identifier: Apache-2.0
// Attacks that end in the TLS handshake: peers whose certificate is not what it should be. Beside each a good one.
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "base/event_loop.h"
#include "base/log.h"
#include "identity/testing.h"
#include "identity/tls.h"
#include "rpc/http2/socket_stream.h"

namespace attacks {
namespace {

using identity::Identity;
using identity::testing::Authority;
using identity::testing::from_now;
using identity::testing::Leaf;
using namespace std::chrono_literals;
using Secured = base::Result<std::unique_ptr<rpc::http2::ByteStream>>;

const Authority& ours() {
  static const Authority authority("mesh.test");
  return authority;
}
const Authority& others() {
  static const Authority authority("other.test");
  return authority;
}

base::Task<void> handshake(identity::Tls& tls, int fd, base::EventLoop& loop, rpc::http2::Side side,
                           std::optional<Secured>* into) {
  std::unique_ptr<rpc::http2::ByteStream> socket = std::make_unique<rpc::http2::SocketStream>(loop, base::UniqueFd(fd));
  auto secured = co_await tls.secure(std::move(socket), side, loop.now() + 10s);
  into->emplace(std::move(secured));
}

// What our server makes of a client with that identity.
Secured meet(std::shared_ptr<const Identity> client) {
  base::EventLoop loop;
  identity::FixedSource server_source(ours().identity("/manager"));
  identity::FixedSource client_source(std::move(client));
  identity::Tls server(loop, server_source);
  identity::Tls client_tls(loop, client_source);
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  std::optional<Secured> at_server;
  std::optional<Secured> at_client;
  base::spawn_detached(handshake(server, ends[0], loop, rpc::http2::Side::server, &at_server));
  base::spawn_detached(handshake(client_tls, ends[1], loop, rpc::http2::Side::client, &at_client));
  EXPECT_TRUE(loop.run_until([&] { return at_server && at_client; }, 20s));
  auto result = at_server ? std::move(*at_server) : Secured(base::fail(base::Code::internal, "it never ended"));
  at_client.reset();
  if (result) return nullptr;
  return result;
}

struct Stranger {
  const char* name;
  const char* is;
  std::function<std::shared_ptr<const Identity>()> make;
};

class TlsAttackTest : public ::testing::TestWithParam<Stranger> {};

TEST_P(TlsAttackTest, IsRefused) {
  base::log::set_sink([](base::log::Level, std::string_view) {});
  EXPECT_TRUE(meet(ours().identity("/client"))) << "an honest client is refused";
  const auto refused = meet(GetParam().make());
  EXPECT_FALSE(refused) << "whoever " << GetParam().is << " gets through";
  base::log::set_sink({});
}

std::shared_ptr<const Identity> bad_leaf(const std::function<void(Leaf&)>& spoil) {
  Leaf leaf;
  spoil(leaf);
  return ours().identity(ours().issue("/client", leaf));
}

const Stranger kStrangers[] = {
    {"OtherTrustDomain", "is of a trust domain that is not known here",
     [] { return others().identity("/client", {&ours()}); }},
    {"OtherCaOurDomain", "has an ID of ours, signed by another domain's CA",
     [] { return ours().identity(others().posing_as("mesh.test").issue("/client")); }},
    {"SelfSigned", "signed its certificate itself", [] { return ours().identity(ours().self_signed("/client")); }},
    {"Expired", "has a certificate that expired an hour ago",
     [] {
       return bad_leaf([](Leaf& leaf) {
         leaf.not_before = from_now(-2h);
         leaf.not_after = from_now(-1h);
       });
     }},
    {"NotYetValid", "has a certificate of tomorrow",
     [] {
       return bad_leaf([](Leaf& leaf) {
         leaf.not_before = from_now(1h);
         leaf.not_after = from_now(2h);
       });
     }},
    {"NoId", "has a certificate without an ID",
     [] { return bad_leaf([](Leaf& leaf) { leaf.uris = std::vector<std::string>(); }); }},
    {"TwoIds", "has two IDs",
     [] {
       return bad_leaf([](Leaf& leaf) {
         leaf.uris = std::vector<std::string>{"spiffe://mesh.test/client", "spiffe://mesh.test/manager"};
       });
     }},
    {"NoSpiffeId", "has a web site's name",
     [] { return bad_leaf([](Leaf& leaf) { leaf.uris = std::vector<std::string>{"https://mesh.test/client"}; }); }},
    {"Authority", "has a CA's certificate",
     [] {
       return bad_leaf([](Leaf& leaf) {
         leaf.ca = true;
         leaf.key_usage = "critical,digitalSignature,keyCertSign";
       });
     }},
    {"WeakKey", "has a short RSA key",
     [] { return bad_leaf([](Leaf& leaf) { leaf.key = identity::testing::KeyKind::rsa1024; }); }},
};

INSTANTIATE_TEST_SUITE_P(Table, TlsAttackTest, ::testing::ValuesIn(kStrangers),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace attacks
