// SPDX-License-Identifier: Apache-2.0
// Mutual TLS: the suite of every transport with TLS on, and every peer that has to be refused, played by OpenSSL alone.
#include "identity/tls.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <cstdint>

#include "base/log.h"
#include "identity/testing.h"
#include "rpc/http2/socket_stream.h"
#include "rpc/http2/test_world.h"
#include "rpc/http2/transport.h"
#include "rpc/transport_suite.h"

namespace identity {
namespace {

using base::Code;
using rpc::http2::ByteStream;
using rpc::http2::Side;
using rpc::http2::SocketStream;
using rpc::testing::begin;
using rpc::testing::memory_file;
using rpc::testing::run_until;
using rpc::testing::ScratchDirectory;
using rpc::testing::wait;
using testing::Authority;
using testing::from_now;
using ::testing::HasSubstr;
using testing::KeyKind;
using testing::Leaf;
using Secured = base::Result<std::unique_ptr<ByteStream>>;

constexpr auto kPatience = std::chrono::seconds(10);

// The end of the pair that is ours, and the other one.
std::pair<base::UniqueFd, base::UniqueFd> socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
  return {base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

// Takes and gives little at a time, and nothing every other time: single bytes at first, more later.
class Trickle final : public ByteStream {
 public:
  Trickle(std::unique_ptr<ByteStream> below, std::size_t single) : below_(std::move(below)), single_(single) {}

  base::Result<std::optional<std::size_t>> read(std::span<char> into) override {
    if ((read_pause_ = !read_pause_)) return std::nullopt;
    auto got = below_->read(into.first(portion(into.size(), in_)));
    if (got && *got) in_ += **got;
    return got;
  }
  base::Result<std::size_t> write(std::span<const char> bytes) override {
    if ((write_pause_ = !write_pause_)) return std::size_t{0};
    auto wrote = below_->write(bytes.first(portion(bytes.size(), out_)));
    if (wrote) out_ += *wrote;
    return wrote;
  }
  void when_readable(std::move_only_function<void(bool)> callback) override {
    below_->when_readable(std::move(callback));
  }
  void when_writable(std::move_only_function<void(bool)> callback) override {
    below_->when_writable(std::move(callback));
  }
  void close() override { below_->close(); }
  void attach(rpc::Descriptor descriptor) override { below_->attach(std::move(descriptor)); }
  void on_descriptor(std::function<void(rpc::Descriptor)> callback) override {
    below_->on_descriptor(std::move(callback));
  }
  int socket() const override { return below_->socket(); }

 private:
  std::size_t portion(std::size_t size, std::size_t so_far) const {
    return std::min<std::size_t>(size, so_far < single_ ? 1 : so_far < 4096 ? 200 : 4000);
  }

  const std::unique_ptr<ByteStream> below_;
  const std::size_t single_;  // bytes that go one by one
  bool read_pause_ = false;
  bool write_pause_ = false;
  std::size_t in_ = 0;
  std::size_t out_ = 0;
};

// TLS on a stream that trickles.
class TrickledTls final : public rpc::http2::Security {
 public:
  TrickledTls(base::Scheduler& scheduler, const Source& source) : tls_(scheduler, source) {}
  base::Task<Secured> secure(std::unique_ptr<ByteStream> socket, Side side, base::TimePoint deadline) override {
    std::unique_ptr<ByteStream> slow = std::make_unique<Trickle>(std::move(socket), 100);
    co_return co_await tls_.secure(std::move(slow), side, deadline);
  }

 private:
  Tls tls_;
};

const Authority& domain_a() {
  static const Authority authority("a.test");
  return authority;
}
const Authority& domain_b() {
  static const Authority authority("b.test");
  return authority;
}

enum class Socket { local, tcp };

// Two processes of two federated domains.
template <typename Security>
class TlsWorld final : public rpc::testing::TransportWorld {
 public:
  explicit TlsWorld(Socket socket) : socket_(socket) {}

  base::EventLoop& scheduler() override { return loop_; }
  rpc::Transport& client() override { return client_; }
  rpc::Transport& server() override { return server_; }
  std::string fresh_url() override {
    if (socket_ == Socket::local) return fmt::format("unix://{}/sub/{}.sock", directory_.path(), next_++);
    rpc::Services none;
    return (*server_.listen("tcp://127.0.0.1:0", none))->url();
  }
  rpc::Descriptor fresh_file() override { return memory_file(); }
  void run(const std::function<bool()>& done, base::Duration at_most) override { run_until(loop_, done, at_most); }

  FixedSource client_source{domain_a().identity("/client", {&domain_b()})};
  FixedSource server_source{domain_b().identity("/server", {&domain_a()})};

 private:
  const Socket socket_;
  ScratchDirectory directory_;
  base::EventLoop loop_;
  rpc::http2::NoCredentials tokens_;
  Security client_tls_{loop_, client_source};
  Security server_tls_{loop_, server_source};
  rpc::http2::Transport client_{loop_, tokens_, client_tls_};
  rpc::http2::Transport server_{loop_, tokens_, server_tls_};
  int next_ = 0;
};

}  // namespace
}  // namespace identity

namespace rpc::testing {

const World kUnix{"unix_socket",
                  [] { return std::make_unique<identity::TlsWorld<identity::Tls>>(identity::Socket::local); }};
const World kTcp{"tcp", [] { return std::make_unique<identity::TlsWorld<identity::Tls>>(identity::Socket::tcp); }};
const World kTrickle{
    "trickle", [] { return std::make_unique<identity::TlsWorld<identity::TrickledTls>>(identity::Socket::local); }};
constexpr auto kName = [](const auto& world) { return world.param.name; };

INSTANTIATE_TEST_SUITE_P(Tls, TransportSuite, ::testing::Values(kUnix, kTcp, kTrickle), kName);
INSTANTIATE_TEST_SUITE_P(Tls, TransportFileSuite, ::testing::Values(kUnix, kTrickle), kName);

}  // namespace rpc::testing

namespace identity {
namespace {

struct Foreign {
  const X509Svid* svid = nullptr;
  int version = TLS1_3_VERSION;  // the highest it speaks
  std::string alpn = "h2";       // empty: it says nothing
  SSL_SESSION* resume = nullptr;
};

// The other end, by OpenSSL's own means, trusting everybody.
class ForeignPeer {
 public:
  ForeignPeer(base::UniqueFd socket, Side side, const Foreign& how)
      : socket_(std::move(socket)), alpn_(how.alpn), context_(SSL_CTX_new(TLS_method())) {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to sockets that we have closed
    SSL_CTX* const context = context_.get();
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, how.version);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, [](int, X509_STORE_CTX*) { return 1; });
    if (!alpn_.empty()) {
      alpn_.insert(alpn_.begin(), static_cast<char>(alpn_.size()));
      SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(alpn_.data()),
                              static_cast<unsigned>(alpn_.size()));
      SSL_CTX_set_alpn_select_cb(
          context,
          [](SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char*, unsigned, void* alpn) {
            const auto& own = *static_cast<std::string*>(alpn);
            *chosen = reinterpret_cast<const unsigned char*>(own.data()) + 1;
            *size = static_cast<unsigned char>(own.size() - 1);
            return SSL_TLSEXT_ERR_OK;
          },
          &alpn_);
    }
    if (how.svid != nullptr) {
      SSL_CTX_use_certificate(context, how.svid->chain.front().get());
      SSL_CTX_use_PrivateKey(context, how.svid->key.get());
      for (std::size_t i = 1; i < how.svid->chain.size(); ++i) {
        SSL_CTX_add1_chain_cert(context, how.svid->chain[i].get());
      }
    }
    ssl_.reset(SSL_new(context));
    SSL_set_fd(ssl_.get(), socket_.get());
    if (how.resume != nullptr) SSL_set_session(ssl_.get(), how.resume);
    if (side == Side::client) {
      SSL_set_connect_state(ssl_.get());
    } else {
      SSL_set_accept_state(ssl_.get());
    }
  }

  // Moves what there is to move.
  void pump() {
    while (!ended) {
      ERR_clear_error();
      std::array<char, 4096> bytes;
      const int got = SSL_read(ssl_.get(), bytes.data(), bytes.size());
      if (got > 0) {
        received.append(bytes.data(), static_cast<std::size_t>(got));
        continue;
      }
      const int why = SSL_get_error(ssl_.get(), got);
      if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return;
      ended = true;
      goodbye = why == SSL_ERROR_ZERO_RETURN;
      if (!goodbye) failure = last_error();
    }
  }
  void send(std::string_view bytes) {
    EXPECT_EQ(SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())), static_cast<int>(bytes.size()));
  }
  bool up() const { return SSL_is_init_finished(ssl_.get()) == 1; }
  SSL* ssl() const { return ssl_.get(); }
  void hang_up() { socket_.reset(); }

  std::string received;
  bool ended = false;
  bool goodbye = false;  // it ended with close_notify
  std::string failure;

 private:
  base::UniqueFd socket_;
  std::string alpn_;
  Owned<SSL_CTX, &SSL_CTX_free> context_;
  Owned<SSL, &SSL_free> ssl_;
};

class TlsTest : public ::testing::Test {
 protected:
  std::shared_ptr<std::optional<Secured>> secure(base::UniqueFd socket, Side side,
                                                 base::Duration patience = kPatience) {
    return begin(tls_.secure(std::make_unique<SocketStream>(loop_, std::move(socket)), side, loop_.now() + patience));
  }

  // The other side of a connection with a foreign peer. Its TLS alert, if any, has arrived.
  struct Meeting {
    Secured ours;
    std::unique_ptr<ForeignPeer> peer;
  };
  Meeting meet(Side ours, const Foreign& how) {
    auto [near, far] = socket_pair();
    auto peer = std::make_unique<ForeignPeer>(std::move(far), ours == Side::client ? Side::server : Side::client, how);
    const auto secured = secure(std::move(near), ours);
    run_until(
        loop_,
        [&] {
          peer->pump();
          return secured->has_value() && (peer->up() || peer->ended);
        },
        kPatience);
    peer->pump();
    return {wait(loop_, secured), std::move(peer)};
  }

  std::string read_all(ByteStream& stream, ForeignPeer& peer, std::size_t wanted) {
    std::string text;
    run_until(
        loop_,
        [&] {
          peer.pump();
          std::array<char, 100> some;
          const auto got = stream.read(some);
          if (got && *got) text.append(some.data(), **got);
          return text.size() >= wanted;
        },
        kPatience);
    return text;
  }

  base::EventLoop loop_;
  FixedSource source_{domain_a().identity("/us", {&domain_b()})};
  Tls tls_{loop_, source_};
};

// What a read brought.
constexpr int kNothing = -1;
constexpr int kBroken = -2;
int count(const base::Result<std::optional<std::size_t>>& read) {
  if (!read) return kBroken;
  return *read ? static_cast<int>(**read) : kNothing;
}

constexpr std::array kSides{Side::client, Side::server};
const std::vector<int> kBoth{TLS1_2_VERSION, TLS1_3_VERSION};

std::string title(Side ours, int version) {
  return fmt::format("we are the {}, TLS 1.{}", ours == Side::client ? "client" : "server",
                     version == TLS1_3_VERSION ? 3 : 2);
}

// A peer that is welcome, from both sides and in both versions.
class GoodPeerTest : public TlsTest {
 protected:
  void expect_welcome(const X509Svid& svid) {
    for (const Side side : kSides) {
      for (const int version : kBoth) {
        SCOPED_TRACE(title(side, version));
        auto [ours, peer] = meet(side, {.svid = &svid, .version = version});
        ASSERT_TRUE(ours) << ours.error().message();
        const auto who = (*ours)->peer();
        EXPECT_EQ(who.id, svid.id.text());
        EXPECT_EQ(who.certificate, to_der(svid.leaf()));
        EXPECT_EQ(who.expires, svid.expires());
        EXPECT_TRUE((*ours)->encrypted());
        EXPECT_GE((*ours)->socket(), 0);
        peer->send("hello");
        EXPECT_EQ(read_all(**ours, *peer, 5), "hello");
        EXPECT_EQ((*ours)->write(std::string_view("good day")), 8U);
        run_until(loop_, [&, peer = peer.get()] { return peer->pump(), peer->received == "good day"; }, kPatience);
        EXPECT_EQ(peer->received, "good day");
      }
    }
  }
};

TEST_F(GoodPeerTest, OwnDomain) { expect_welcome(domain_a().issue("/them")); }
TEST_F(GoodPeerTest, FederatedDomain) { expect_welcome(domain_b().issue("/them")); }
TEST_F(GoodPeerTest, Intermediate) { expect_welcome(domain_b().intermediate().issue("/them")); }
TEST_F(GoodPeerTest, P384) { expect_welcome(domain_a().issue("/them", {.key = KeyKind::p384})); }
// It may connect; its path tokens would be refused, for those take P-256.
TEST_F(GoodPeerTest, Rsa) { expect_welcome(domain_a().issue("/them", {.key = KeyKind::rsa2048})); }

// A peer whose certificate is refused, from both sides and in both versions.
class BadPeerTest : public TlsTest {
 protected:
  void expect_refusal(const X509Svid& svid, const std::string& why, std::vector<int> versions = kBoth) {
    for (const Side side : kSides) {
      for (const int version : versions) {
        SCOPED_TRACE(title(side, version));
        const auto [ours, peer] = meet(side, {.svid = &svid, .version = version});
        ASSERT_FALSE(ours);
        EXPECT_EQ(ours.error().code(), Code::unavailable);
        EXPECT_THAT(ours.error().message(), HasSubstr("the peer's certificate is refused: "));
        EXPECT_THAT(ours.error().message(), HasSubstr(why));
        EXPECT_EQ(peer->failure, "sslv3 alert bad certificate") << "the peer hears that and no more";
      }
    }
  }
};

TEST_F(BadPeerTest, Expired) {
  expect_refusal(domain_a().issue("/them", {.not_after = from_now(-std::chrono::minutes(1))}),
                 "spiffe://a.test/them: certificate has expired");
}
TEST_F(BadPeerTest, NotYetValid) {
  expect_refusal(domain_a().issue("/them", {.not_before = from_now(std::chrono::minutes(5))}),
                 "spiffe://a.test/them: certificate is not yet valid");
}
TEST_F(BadPeerTest, UnknownDomain) {
  expect_refusal(Authority("c.test").issue("/them"), "nothing is known of trust domain 'c.test'");
}
TEST_F(BadPeerTest, DomainOfAnotherCa) {
  expect_refusal(domain_b().posing_as("a.test").issue("/them"), "spiffe://a.test/them: unable to get");
}
TEST_F(BadPeerTest, UnknownCaOfAKnownName) {
  expect_refusal(Authority("a.test").issue("/them"), "spiffe://a.test/them: ");
}
TEST_F(BadPeerTest, SelfSigned) {
  expect_refusal(domain_a().self_signed("/them"), "spiffe://a.test/them: self-signed certificate");
}
TEST_F(BadPeerTest, CaAsLeaf) {
  Leaf ca;
  ca.ca = true;
  ca.key_usage = "critical,digitalSignature,keyCertSign";
  expect_refusal(domain_a().issue("/them", ca), "it is a CA's");
}
TEST_F(BadPeerTest, TheCaItself) {
  X509Svid svid = domain_a().issue("/them");
  svid.chain.clear();
  svid.chain.push_back(share(const_cast<X509*>(&domain_a().certificate())));
  svid.key = share(&domain_a().key());
  expect_refusal(svid, "it is a CA's", {TLS1_3_VERSION});  // in 1.2 OpenSSL will not even show it
}
TEST_F(BadPeerTest, MaySignCertificates) {
  expect_refusal(domain_a().issue("/them", {.key_usage = "critical,digitalSignature,keyCertSign"}),
                 "its key may sign certificates");
}
TEST_F(BadPeerTest, TwoIds) {
  Leaf two;
  two.uris = {"spiffe://a.test/them", "spiffe://a.test/others"};
  expect_refusal(domain_a().issue("/them", two), "it has more than one URI name");
}
TEST_F(BadPeerTest, NoId) {
  Leaf none;
  none.uris.emplace();
  expect_refusal(domain_a().issue("/them", none), "it has no URI name");
}
TEST_F(BadPeerTest, WeakKey) {
  expect_refusal(domain_a().issue("/them", {.key = KeyKind::rsa1024}), "has 80 bits of security");
}
TEST_F(BadPeerTest, MissingIntermediate) {
  X509Svid svid = domain_a().intermediate().issue("/them");
  svid.chain.pop_back();
  expect_refusal(svid, "spiffe://a.test/them: unable to get");
}

class AuthorizedTest : public TlsTest {
 protected:
  Secured meet_as(Authorize authorize, const X509Svid& svid) {
    Tls strict(loop_, source_, std::move(authorize));
    auto [near, far] = socket_pair();
    ForeignPeer peer(std::move(far), Side::client, {.svid = &svid});
    const auto secured = begin(
        strict.secure(std::make_unique<SocketStream>(loop_, std::move(near)), Side::server, loop_.now() + kPatience));
    run_until(loop_, [&] { return peer.pump(), secured->has_value(); }, kPatience);
    return wait(loop_, secured);
  }
};

TEST_F(AuthorizedTest, DomainsRestrict) {
  EXPECT_TRUE(meet_as(authorize_only({"b.test"}, {}), domain_b().issue("/them")));
  const auto refused = meet_as(authorize_only({"b.test"}, {}), domain_a().issue("/them"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("spiffe://a.test/them: its trust domain is not among"));
}

TEST_F(AuthorizedTest, IdsRestrict) {
  EXPECT_TRUE(meet_as(authorize_only({}, {"spiffe://a.test/them"}), domain_a().issue("/them")));
  const auto refused = meet_as(authorize_only({}, {"spiffe://a.test/them"}), domain_a().issue("/others"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("spiffe://a.test/others: it is not among"));
}

TEST_F(AuthorizedTest, BothRestrictTogether) {
  EXPECT_FALSE(meet_as(authorize_only({"b.test"}, {"spiffe://a.test/them"}), domain_a().issue("/them")));
  EXPECT_TRUE(meet_as(authorize_only({}, {}), domain_a().issue("/them")));
}

// Peers that do not speak as agreed.
TEST_F(TlsTest, ClientWithoutCertificateIsRefused) {
  for (const int version : kBoth) {
    SCOPED_TRACE(title(Side::server, version));
    const auto [ours, peer] = meet(Side::server, {.version = version});
    ASSERT_FALSE(ours);
    EXPECT_THAT(ours.error().message(), HasSubstr("peer did not return a certificate"));
    EXPECT_THAT(peer->failure, HasSubstr("alert"));
  }
}

TEST_F(TlsTest, Tls11IsRefused) {
  const X509Svid svid = domain_a().issue("/them");
  for (const Side side : kSides) {
    SCOPED_TRACE(title(side, TLS1_1_VERSION));
    const auto [ours, peer] = meet(side, {.svid = &svid, .version = TLS1_1_VERSION});
    ASSERT_FALSE(ours);
    EXPECT_THAT(ours.error().message(),
                ::testing::AnyOf(HasSubstr("unsupported protocol"), HasSubstr("protocol version")));
  }
}

TEST_F(TlsTest, PeerWithoutHttp2IsRefused) {
  const X509Svid svid = domain_a().issue("/them");
  for (const std::string alpn : {"", "http/1.1"}) {
    for (const Side side : kSides) {
      for (const int version : kBoth) {
        SCOPED_TRACE(alpn + " " + title(side, version));
        const auto [ours, peer] = meet(side, {.svid = &svid, .version = version, .alpn = alpn});
        ASSERT_FALSE(ours);
        if (side == Side::server) {
          EXPECT_THAT(ours.error().message(), HasSubstr("the peer does not speak HTTP/2 over TLS"));
          EXPECT_THAT(peer->failure, HasSubstr("no application protocol"));
        } else if (alpn.empty()) {
          EXPECT_THAT(ours.error().message(), HasSubstr("the server does not speak HTTP/2 over TLS"));
        }
      }
    }
  }
}

TEST_F(TlsTest, PeersThatSpeakSomethingElseAreRefused) {
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  const std::string zeros(4096, '\0');
  const std::string noise = "\x16\x03\x01\x40\x00" + std::string(20'000, '\xa5');  // looks like a handshake at first
  for (const auto& bytes : {preface, settings + settings, zeros, noise}) {
    for (const Side side : kSides) {
      auto [near, far] = socket_pair();
      ASSERT_EQ(::send(far.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
      const auto secured = wait(loop_, secure(std::move(near), side));
      ASSERT_FALSE(secured);
      EXPECT_EQ(secured.error().code(), Code::unavailable);
      EXPECT_THAT(secured.error().message(), HasSubstr("the peer does not speak TLS as it should: "));
    }
  }
}

TEST_F(TlsTest, EndlessChainsAreRefused) {
  X509Svid svid = domain_a().issue("/them");
  for (std::size_t size = 0; size < 80'000; size += domain_b().bundle().size()) {  // OpenSSL alone would take 100 kB
    svid.chain.push_back(share(const_cast<X509*>(&domain_b().certificate())));
  }
  for (const Side side : kSides) {
    const auto [ours, peer] = meet(side, {.svid = &svid});
    ASSERT_FALSE(ours);
    EXPECT_THAT(ours.error().message(), HasSubstr("excessive message size"));
  }
}

TEST_F(TlsTest, SilenceEndsAtTheDeadline) {
  for (const Side side : kSides) {
    auto [near, far] = socket_pair();
    const auto before = loop_.now();
    const auto secured = wait(loop_, secure(std::move(near), side, std::chrono::milliseconds(50)));
    ASSERT_FALSE(secured);
    EXPECT_EQ(secured.error().message(), "the peer did not end the TLS handshake in time");
    EXPECT_GE(loop_.now() - before, std::chrono::milliseconds(50));
    std::array<char, 4096> bytes;
    ssize_t got = 1;
    while (got > 0) got = ::recv(far.get(), bytes.data(), bytes.size(), 0);
    EXPECT_EQ(got, 0) << "the socket is closed";
  }
}

TEST_F(TlsTest, HandshakeByteByByte) {
  auto [near, far] = socket_pair();
  const auto slowly = [&](base::UniqueFd socket, Side side) {
    auto slow = std::make_unique<Trickle>(std::make_unique<SocketStream>(loop_, std::move(socket)), SIZE_MAX);
    return begin(tls_.secure(std::move(slow), side, loop_.now() + kPatience));
  };
  const auto server = slowly(std::move(near), Side::server);
  const auto client = slowly(std::move(far), Side::client);
  const auto first = wait(loop_, client);
  const auto second = wait(loop_, server);
  ASSERT_TRUE(first) << first.error().message();
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ((*first)->peer().id, "spiffe://a.test/us");
  EXPECT_EQ((*second)->peer().id, "spiffe://a.test/us");
}

TEST_F(TlsTest, HangingUpInTheHandshakeIsSaid) {
  for (const Side side : kSides) {
    auto [near, far] = socket_pair();
    far.reset();
    const auto secured = wait(loop_, secure(std::move(near), side));
    ASSERT_FALSE(secured);
    EXPECT_EQ(secured.error().code(), Code::unavailable);
    EXPECT_THAT(secured.error().message(), ::testing::AnyOf(HasSubstr("hung up"), HasSubstr("Broken pipe")));
  }
}

TEST_F(TlsTest, WithoutAnSvidNothingIsSaid) {
  source_.set(nullptr);
  auto [near, far] = socket_pair();
  const auto secured = wait(loop_, secure(std::move(near), Side::client));
  ASSERT_FALSE(secured);
  EXPECT_EQ(secured.error().code(), Code::unavailable);
  EXPECT_THAT(secured.error().message(), HasSubstr("has no SVID yet"));
  char byte = 0;
  EXPECT_EQ(::recv(far.get(), &byte, 1, 0), 0);
}

TEST_F(TlsTest, WithAnExpiredSvidNothingIsSaid) {
  source_.set(domain_a().identity(domain_a().issue("/us", {.not_after = from_now(-std::chrono::seconds(1))})));
  auto [near, far] = socket_pair();
  const auto secured = wait(loop_, secure(std::move(near), Side::server));
  ASSERT_FALSE(secured);
  EXPECT_THAT(secured.error().message(), HasSubstr("spiffe://a.test/us has expired"));
}

// Established connections.
TEST_F(TlsTest, BufferedPlaintextIsReadable) {
  const X509Svid svid = domain_a().issue("/them");
  auto [ours, peer] = meet(Side::server, {.svid = &svid});
  ASSERT_TRUE(ours) << ours.error().message();
  ByteStream& stream = **ours;
  std::string sent;
  for (int i = 0; i < 1000; ++i) sent += static_cast<char>('a' + i % 26);
  peer->send(sent);  // one record
  std::string got;
  std::array<char, 10> some;
  int wakes = 0;
  while (got.size() < sent.size()) {
    bool woken = false;
    stream.when_readable([&](bool open) { woken = open; });
    EXPECT_FALSE(woken) << "not inside the call";
    run_until(loop_, [&] { return woken; }, kPatience);
    ASSERT_TRUE(woken) << "after " << got.size() << " bytes";
    const auto read = stream.read(some);
    ASSERT_TRUE(read);
    if (*read) got.append(some.data(), **read);
    ASSERT_LT(++wakes, 1000);
  }
  EXPECT_EQ(got, sent);
  // At the end there may be more, as far as anybody knows; after a look there is not.
  EXPECT_EQ(count(stream.read(some)), kNothing);
  bool woken = false;
  stream.when_readable([&](bool) { woken = true; });
  loop_.run_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(woken);
  peer->send("more than fits");
  run_until(loop_, [&] { return woken; }, kPatience);
  EXPECT_EQ(count(stream.read(some)), 10);
  woken = false;
  stream.when_readable([&](bool) { woken = true; });
  run_until(loop_, [&] { return woken; }, kPatience);
  EXPECT_EQ(count(stream.read(some)), 4);
  woken = false;
  stream.when_readable([&](bool) { woken = true; });
  stream.close();
  run_until(loop_, [&] { return woken; }, kPatience);
  EXPECT_TRUE(woken) << "closing ends the wait";
}

TEST_F(TlsTest, WhatComesWithTheHandshakesEndIsReadable) {
  const X509Svid svid = domain_a().issue("/them");
  auto [near, far] = socket_pair();
  ForeignPeer peer(std::move(far), Side::client, {.svid = &svid});
  const auto secured = secure(std::move(near), Side::server);
  bool sent = false;
  run_until(
      loop_,
      [&] {
        peer.pump();
        if (peer.up() && !std::exchange(sent, true)) peer.send("hasty");
        return secured->has_value();
      },
      kPatience);
  auto ours = wait(loop_, secured);
  ASSERT_TRUE(ours) << ours.error().message();
  bool woken = false;
  (*ours)->when_readable([&](bool open) { woken = open; });
  run_until(loop_, [&] { return woken; }, kPatience);
  EXPECT_TRUE(woken);
  std::array<char, 100> some;
  EXPECT_EQ(count((*ours)->read(some)), 5);
}

TEST_F(TlsTest, ClosingSaysGoodbyeAndHearsIt) {
  const X509Svid svid = domain_a().issue("/them");
  for (const Side side : kSides) {
    auto [ours, peer] = meet(side, {.svid = &svid});
    ASSERT_TRUE(ours) << ours.error().message();
    (*ours)->close();
    peer->pump();
    EXPECT_TRUE(peer->goodbye) << peer->failure;
    std::array<char, 10> some;
    EXPECT_FALSE((*ours)->read(some));
    EXPECT_FALSE((*ours)->write(some));

    auto [second, other] = meet(side, {.svid = &svid});
    ASSERT_TRUE(second);
    SSL_shutdown(other->ssl());
    EXPECT_EQ(count((*second)->read(some)), 0);
    EXPECT_EQ(count((*second)->read(some)), 0);
  }
}

TEST_F(TlsTest, EndWithoutGoodbyeIsTheEndAfterWhatCameBefore) {
  const X509Svid svid = domain_a().issue("/them");
  auto [ours, peer] = meet(Side::server, {.svid = &svid});
  ASSERT_TRUE(ours) << ours.error().message();
  peer->send("last words");
  peer->hang_up();
  std::array<char, 100> some;
  EXPECT_EQ(count((*ours)->read(some)), 10);
  bool woken = false;
  (*ours)->when_readable([&](bool) { woken = true; });
  run_until(loop_, [&] { return woken; }, kPatience);
  EXPECT_TRUE(woken);
  EXPECT_EQ(count((*ours)->read(some)), 0);
}

TEST_F(TlsTest, BrokenRecordIsAnErrorThatStays) {
  const X509Svid svid = domain_a().issue("/them");
  auto [ours, peer] = meet(Side::server, {.svid = &svid});
  ASSERT_TRUE(ours) << ours.error().message();
  peer->send("fine");
  const std::string broken = std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x');
  ASSERT_EQ(::send(SSL_get_fd(peer->ssl()), broken.data(), broken.size(), 0), static_cast<ssize_t>(broken.size()));
  std::array<char, 100> some;
  EXPECT_EQ(count((*ours)->read(some)), 4);
  for (int i = 0; i < 2; ++i) {
    const auto end = (*ours)->read(some);
    ASSERT_FALSE(end);
    EXPECT_THAT(end.error().message(), HasSubstr("the peer does not speak TLS as it should: "));
  }
}

TEST_F(TlsTest, WriterWaitsForRoomAndLosesNothing) {
  const X509Svid svid = domain_a().issue("/them");
  for (const int version : kBoth) {
    auto [ours, peer] = meet(Side::client, {.svid = &svid, .version = version});
    ASSERT_TRUE(ours) << ours.error().message();
    std::string sent(3 << 20, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 131 >> 5);
    std::size_t done = 0;
    int waits = 0;
    while (done < sent.size()) {
      std::string moved = sent.substr(done);  // at another address each time
      const auto wrote = (*ours)->write(moved);
      ASSERT_TRUE(wrote) << wrote.error().message();
      done += *wrote;
      if (done == sent.size()) break;
      bool room = false;
      (*ours)->when_writable([&](bool open) { room = open; });
      ++waits;
      run_until(loop_, [&, other = peer.get()] { return other->pump(), room; }, kPatience);
      ASSERT_TRUE(room);
    }
    peer->pump();
    EXPECT_GT(waits, 3);
    EXPECT_TRUE(peer->received == sent);
  }
}

TEST_F(TlsTest, RenegotiationIsRefusedAndTheConnectionLives) {
  const X509Svid svid = domain_a().issue("/them");
  auto [ours, peer] = meet(Side::server, {.svid = &svid, .version = TLS1_2_VERSION});
  ASSERT_TRUE(ours) << ours.error().message();
  SSL_renegotiate(peer->ssl());
  SSL_do_handshake(peer->ssl());
  std::array<char, 10> some;
  EXPECT_EQ(count((*ours)->read(some)), kNothing);
  EXPECT_EQ((*ours)->write(std::string_view("still here")), 10U);
  peer->pump();
  EXPECT_THAT(peer->failure, HasSubstr("no renegotiation"));
}

TEST_F(TlsTest, KeyUpdatesAreFollowed) {
  const X509Svid svid = domain_a().issue("/them");
  auto [ours, peer] = meet(Side::server, {.svid = &svid});
  ASSERT_TRUE(ours) << ours.error().message();
  for (int i = 0; i < 100; ++i) {
    SSL_key_update(peer->ssl(), SSL_KEY_UPDATE_REQUESTED);
    peer->send("ping");
    EXPECT_EQ(read_all(**ours, *peer, 4), "ping");
    EXPECT_EQ((*ours)->write(std::string_view("pong")), 4U);
  }
  peer->pump();
  EXPECT_EQ(peer->received.size(), 400U);
}

TEST_F(TlsTest, NothingIsResumed) {
  const X509Svid svid = domain_a().issue("/them");
  for (const int version : kBoth) {
    SCOPED_TRACE(title(Side::server, version));
    auto [first, peer] = meet(Side::server, {.svid = &svid, .version = version});
    ASSERT_TRUE(first) << first.error().message();
    EXPECT_EQ((*first)->write(std::string_view("hello")), 5U);
    peer->pump();
    const Owned<SSL_SESSION, &SSL_SESSION_free> session(SSL_get1_session(peer->ssl()));
    EXPECT_EQ(SSL_SESSION_has_ticket(session.get()), 0);
    EXPECT_EQ(SSL_SESSION_is_resumable(session.get()), 0);
    auto [second, again] = meet(Side::server, {.svid = &svid, .version = version, .resume = session.get()});
    ASSERT_TRUE(second) << second.error().message();
    EXPECT_EQ(SSL_session_reused(again->ssl()), 0);
  }
}

TEST_F(TlsTest, RotationConcernsNewConnectionsOnly) {
  const X509Svid svid = domain_a().issue("/them");
  for (const Side side : kSides) {
    const auto shown = [](const ForeignPeer& peer) { return to_der(*SSL_get0_peer_certificate(peer.ssl())); };
    const std::string old_leaf = to_der(source_.current()->svid.leaf());
    auto [before, old_peer] = meet(side, {.svid = &svid});
    ASSERT_TRUE(before) << before.error().message();
    EXPECT_EQ(shown(*old_peer), old_leaf);
    source_.set(domain_a().identity("/us"));
    auto [after, new_peer] = meet(side, {.svid = &svid});
    ASSERT_TRUE(after) << after.error().message();
    EXPECT_EQ(shown(*new_peer), to_der(source_.current()->svid.leaf()));
    EXPECT_NE(shown(*new_peer), old_leaf);
    old_peer->send("alive");
    EXPECT_EQ(read_all(**before, *old_peer, 5), "alive");
  }
}

TEST_F(TlsTest, EpochChangesWithTheIdentity) {
  const auto first = tls_.epoch();
  EXPECT_EQ(tls_.epoch(), first);
  source_.set(domain_a().identity("/us"));
  const auto second = tls_.epoch();
  EXPECT_NE(second, first);
  EXPECT_EQ(tls_.epoch(), second);
}

TEST_F(TlsTest, PeerSaysWhatWeHaveShown) {
  const X509Svid svid = domain_a().issue("/them");
  const auto shown = source_.current();
  const auto [ours, peer] = meet(Side::server, {.svid = &svid});
  ASSERT_TRUE(ours) << ours.error().message();
  source_.set(domain_a().identity("/us"));
  EXPECT_EQ((*ours)->peer().ours, shown);
}

TEST_F(TlsTest, BundleTakenAwayConcernsNewConnections) {
  const X509Svid svid = domain_b().issue("/them");
  ASSERT_TRUE(meet(Side::server, {.svid = &svid}).ours);
  source_.set(domain_a().identity("/us"));
  const auto [ours, peer] = meet(Side::server, {.svid = &svid});
  ASSERT_FALSE(ours);
  EXPECT_THAT(ours.error().message(), HasSubstr("nothing is known of trust domain 'b.test'"));
}

TEST_F(TlsTest, OwnIntermediatesAreShown) {
  source_.set(domain_a().identity(domain_a().intermediate().issue("/us")));
  const X509Svid svid = domain_a().issue("/them");
  for (const Side side : kSides) {
    const auto [ours, peer] = meet(side, {.svid = &svid});
    ASSERT_TRUE(ours) << ours.error().message();
    const int others = side == Side::server ? 2 : 1;  // a client's view counts the leaf
    EXPECT_EQ(sk_X509_num(SSL_get_peer_cert_chain(peer->ssl())), others);
  }
}

// Through the whole transport.
class TlsTransportTest : public ::testing::TestWithParam<Socket> {
 public:
  TlsTransportTest() {
    services_["/t.T/Who"] =
        rpc::UnaryHandler([](rpc::ServerCall& call, rpc::Bytes) -> base::Task<base::Result<rpc::Bytes>> {
          co_return call.link->peer().id;
        });
    services_["/t.T/Take"] =
        rpc::UnaryHandler([this](rpc::ServerCall& call, rpc::Bytes urls) { return take(call, std::move(urls)); });
    base::log::set_sink([this](base::log::Level level, std::string_view line) {
      if (level >= base::log::Level::info) log_ += std::string(line) + "\n";
    });
  }
  ~TlsTransportTest() override {
    if (listener_) wait(loop(), end(*listener_));
    base::log::set_sink({});
  }

  static base::Task<bool> end(rpc::Listener& listener) {
    co_await listener.finish();
    co_return true;
  }

  // Takes each file that the request names, a line each.
  base::Task<base::Result<rpc::Bytes>> take(rpc::ServerCall& call, rpc::Bytes urls) {
    int taken = 0;
    for (std::size_t at = 0; at < urls.size();) {
      const auto line_end = urls.find('\n', at);
      const auto key = rpc::parse_inode_url(urls.substr(at, line_end - at));
      at = line_end + 1;
      auto file = co_await call.link->descriptor(*key, loop().now() + kPatience, call.stop);
      if (!file) co_return std::unexpected(file.error());
      ++taken;
    }
    co_return fmt::format("{}", taken);
  }

  void serve() { listener_ = *world_.server().listen(world_.fresh_url(), services_); }
  base::EventLoop& loop() { return world_.scheduler(); }
  rpc::CallOptions patient() {
    rpc::CallOptions options;
    options.deadline = loop().now() + kPatience;
    return options;
  }

  TlsWorld<Tls> world_{GetParam()};
  rpc::Services services_;
  std::unique_ptr<rpc::Listener> listener_;
  std::string log_;
};

TEST_P(TlsTransportTest, BothEndsKnowEachOther) {
  serve();
  const auto channel = *world_.client().channel(listener_->url());
  const auto reply = wait(loop(), channel->unary("/t.T/Who", "", patient()));
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ(reply->body, "spiffe://a.test/client");
  EXPECT_EQ(reply->link->peer().id, "spiffe://b.test/server");
  EXPECT_EQ(reply->link->peer().certificate, to_der(world_.server_source.current()->svid.leaf()));
}

TEST_P(TlsTransportTest, RefusedClientGetsUnavailableAndTheServerLogsWhy) {
  world_.client_source.set(Authority("c.test").identity("/client", {&domain_b()}));
  serve();
  const auto channel = *world_.client().channel(listener_->url());
  const auto reply = wait(loop(), channel->unary("/t.T/Who", "", patient()));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), Code::unavailable);
  EXPECT_THAT(reply.error().message(), HasSubstr("TLS alert 'bad certificate'"));
  EXPECT_THAT(log_, HasSubstr("nothing is known of trust domain 'c.test'"));
}

TEST_P(TlsTransportTest, RefusedServerGivesUnavailableWithTheReason) {
  world_.server_source.set(Authority("c.test").identity("/server", {&domain_a()}));
  serve();
  const auto channel = *world_.client().channel(listener_->url());
  const auto reply = wait(loop(), channel->unary("/t.T/Who", "", patient()));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), Code::unavailable);
  EXPECT_THAT(reply.error().message(), HasSubstr("nothing is known of trust domain 'c.test'"));
  EXPECT_THAT(reply.error().message(), HasSubstr(listener_->url()));
  EXPECT_THAT(log_, HasSubstr("a connection was given up: the peer's certificate is refused"));
  run_until(loop(), [&] { return log_.contains("TLS alert"); }, kPatience);
  EXPECT_THAT(log_, HasSubstr("TLS alert 'bad certificate'")) << "the server's line";
}

TEST_P(TlsTransportTest, PlaintextClientGetsUnavailable) {
  serve();
  rpc::http2::Transport plain(loop());
  const auto channel = *plain.channel(listener_->url());
  const auto reply = wait(loop(), channel->unary("/t.T/Who", "", patient()));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), Code::unavailable);
  EXPECT_THAT(log_, HasSubstr("the peer does not speak TLS as it should"));
}

TEST_P(TlsTransportTest, PlaintextServerGivesUnavailable) {
  rpc::http2::Transport plain(loop());
  listener_ = *plain.listen(world_.fresh_url(), services_);
  const auto channel = *world_.client().channel(listener_->url());
  const auto reply = wait(loop(), channel->unary("/t.T/Who", "", patient()));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code(), Code::unavailable);
  EXPECT_THAT(reply.error().message(), HasSubstr("the peer does not speak TLS as it should"));
}

// Calls on a connection that stays and on new ones, while both ends rotate as fast as they can.
TEST_P(TlsTransportTest, RotationsLoseNoRequest) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr int kRotations = 100;  // each takes ten times as long
#else
  constexpr int kRotations = 1000;
#endif
  constexpr int kCallers = 4;
  serve();
  struct Load {
    explicit Load(TlsTransportTest& t) : test(t) {}
    TlsTransportTest& test;
    bool rotating = true;
    int calls = 0;
    int lost = 0;
    std::string first_loss;

    base::Task<bool> call_on_and_on(bool fresh) {
      auto kept = *test.world_.client().channel(test.listener_->url());
      while (rotating) {
        std::unique_ptr<rpc::http2::Transport> transport;
        rpc::http2::NoCredentials tokens;
        Tls tls(test.loop(), test.world_.client_source);
        if (fresh) {
          transport = std::make_unique<rpc::http2::Transport>(test.loop(), tokens, tls);
          kept = *transport->channel(test.listener_->url());
        }
        const auto reply = co_await kept->unary("/t.T/Who", "", test.patient());
        ++calls;
        if (reply && reply->body == "spiffe://a.test/client") continue;
        ++lost;
        if (first_loss.empty()) first_loss = reply ? reply->body : reply.error().message();
      }
      co_return true;
    }
  } load(*this);
  std::vector<std::shared_ptr<std::optional<bool>>> callers;
  for (int i = 0; i < kCallers; ++i) callers.push_back(begin(load.call_on_and_on(i % 2 == 0)));
  const auto start = loop().now();
  int rotations = 0;
  const std::function<void()> rotate = [&] {
    if (++rotations % 2 == 0) {
      world_.client_source.set(domain_a().identity("/client", {&domain_b()}));
    } else {
      world_.server_source.set(domain_b().identity("/server", {&domain_a()}));
    }
    if (rotations < kRotations) return loop().post_at(loop().now() + std::chrono::milliseconds(1), rotate), void();
    load.rotating = false;
  };
  rotate();
  for (const auto& caller : callers) wait(loop(), caller);
  EXPECT_EQ(rotations, kRotations);
  EXPECT_EQ(load.lost, 0) << load.first_loss << "\n" << log_.substr(0, 1000);
  EXPECT_GT(load.calls, kRotations / 10);
  RecordProperty("calls", load.calls);
  EXPECT_LT(loop().now() - start, std::chrono::seconds(20));
}

constexpr auto kSocketName = [](const auto& socket) { return socket.param == Socket::local ? "unix_socket" : "tcp"; };
INSTANTIATE_TEST_SUITE_P(Tls, TlsTransportTest, ::testing::Values(Socket::local, Socket::tcp), kSocketName);

class TlsFileTest : public TlsTransportTest {};

TEST_P(TlsFileTest, SixtyFourFilesTravelWithACall) {
  serve();
  const auto channel = *world_.client().channel(listener_->url());
  for (int round = 0; round < 5; ++round) {
    auto options = patient();
    std::string urls;
    for (int i = 0; i < 64; ++i) {
      options.descriptors.push_back(memory_file());
      urls += options.descriptors.back().url() + "\n";
    }
    const auto reply = wait(loop(), channel->unary("/t.T/Take", urls, std::move(options)));
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->body, "64");
  }
}

TEST_P(TlsFileTest, FilesOfManyCallsAtOnceArrive) {
  serve();
  const auto channel = *world_.client().channel(listener_->url());
  std::vector<std::shared_ptr<std::optional<base::Result<rpc::Reply>>>> calls;
  for (int i = 0; i < 100; ++i) {
    auto options = patient();
    options.descriptors = {memory_file(), memory_file()};
    std::string urls;
    for (const auto& file : options.descriptors) urls += file.url() + "\n";
    calls.push_back(begin(channel->unary("/t.T/Take", urls, std::move(options))));
  }
  for (const auto& each : calls) {
    const auto reply = wait(loop(), each);
    ASSERT_TRUE(reply) << reply.error().message();
    EXPECT_EQ(reply->body, "2");
  }
}

INSTANTIATE_TEST_SUITE_P(Tls, TlsFileTest, ::testing::Values(Socket::local), kSocketName);

}  // namespace
}  // namespace identity
