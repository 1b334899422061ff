// SPDX-License-Identifier: Apache-2.0
// OpenSSL reads from and writes to the stream below it directly, through a BIO of ours: a record is encrypted once into
// OpenSSL's buffer and goes from there into the socket.
#include "identity/tls.h"

#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/async.h"
#include "base/log.h"
#include "rpc/http2/socket_stream.h"

namespace identity {

using base::Code;
using base::Error;
using base::fail;
using rpc::http2::ByteStream;
using rpc::http2::Side;

namespace {

using SslPtr = Owned<SSL, &SSL_free>;

constexpr std::array<unsigned char, 3> kAlpn{2, 'h', '2'};
constexpr int kMinSecurityBits = 112;  // of a peer's key: RSA of 2048 bits, any curve of 224 or more
constexpr base::Duration kAnswerRetry = std::chrono::milliseconds(5);
constexpr int kFirstAlert = 1000;            // OpenSSL's reason codes of alerts that came start here
constexpr std::size_t kMaxChain = 64 << 10;  // bytes of certificates a peer may send

// What a handshake has to know about the other end, and what it found out.
struct PeerCheck {
  base::Scheduler& scheduler;
  const std::shared_ptr<const Identity> identity;
  const Authorize authorize;
  rpc::Peer peer;
  std::optional<Error> refusal;

  static PeerCheck& of(SSL* ssl) { return *static_cast<PeerCheck*>(SSL_get_app_data(ssl)); }

  base::Result<void> accept(STACK_OF(X509) * certificates) {
    std::vector<CertificatePtr> chain;
    for (int i = 0; i < sk_X509_num(certificates); ++i) chain.push_back(share(sk_X509_value(certificates, i)));
    auto id = verify_chain(chain, identity->bundles, scheduler.wall_now());
    if (!id) return std::unexpected(id.error());
    const X509& leaf = *chain.front();
    EVP_PKEY* const key = X509_get0_pubkey(&leaf);
    if (key == nullptr) return fail(Code::permission_denied, "{}: the key of its SVID cannot be read", id->text());
    if (const int bits = EVP_PKEY_get_security_bits(key); bits < kMinSecurityBits) {
      return fail(Code::permission_denied, "{}: the key of its SVID has {} bits of security, at least {} are needed",
                  id->text(), bits, kMinSecurityBits);
    }
    if (auto allowed = authorize(*id); !allowed) return allowed;
    peer.id = id->text();
    peer.certificate = to_der(leaf);
    peer.expires = not_after(leaf);
    peer.ours = identity;
    return {};
  }
};

// In place of X509_verify_cert(). Any refusal is the same alert, bad_certificate, to the peer.
int verify_peer(X509_STORE_CTX* context, void*) {
  auto* const ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto& check = PeerCheck::of(ssl);
  if (auto accepted = check.accept(X509_STORE_CTX_get0_untrusted(context)); !accepted) {
    check.refusal = accepted.error().wrap("the peer's certificate is refused");
    X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_REJECTED);
    return 0;
  }
  X509_STORE_CTX_set_error(context, X509_V_OK);
  return 1;
}

void refuse_protocol(SSL* ssl) {
  PeerCheck::of(ssl).refusal = Error(Code::unavailable, "the peer does not speak HTTP/2 over TLS: ALPN has to be 'h2'");
}

int select_protocol(SSL* ssl, const unsigned char** selected, unsigned char* size, const unsigned char* offered,
                    unsigned int offered_size, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, kAlpn.data(), kAlpn.size(), offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    refuse_protocol(ssl);
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *selected = chosen;
  return SSL_TLSEXT_ERR_OK;
}

// A client that offers no protocol at all never gets to select_protocol().
int require_protocol(SSL* ssl, int* alert, void*) {
  const unsigned char* bytes = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &bytes, &size) == 1) {
    return SSL_CLIENT_HELLO_SUCCESS;
  }
  refuse_protocol(ssl);
  *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
  return SSL_CLIENT_HELLO_ERROR;
}

SSL_CTX* make_context() {
  SSL_CTX* const context = SSL_CTX_new(TLS_method());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20");  // of TLS 1.2; RFC 9113 forbids most others
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_max_cert_list(context, kMaxChain);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, verify_peer, nullptr);
  SSL_CTX_set_client_hello_cb(context, require_protocol, nullptr);
  SSL_CTX_set_alpn_select_cb(context, select_protocol, nullptr);
  SSL_CTX_set_alpn_protos(context, kAlpn.data(), kAlpn.size());
  return context;
}

class TlsStream final : public ByteStream {
 public:
  TlsStream(base::Scheduler& scheduler, std::unique_ptr<ByteStream> below, SSL_CTX* context, Side side)
      : scheduler_(scheduler), below_(std::move(below)), ssl_(SSL_new(context)) {
    BIO* const bio = BIO_new(bio_method());
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);
    // The read that brings a client's last message of the handshake may bring the first file as well.
    below_->on_descriptor([this](rpc::Descriptor descriptor) {
      if (on_descriptor_) return on_descriptor_(std::move(descriptor));
      if (early_.size() < rpc::http2::kDescriptorsPerRead) early_.push_back(std::move(descriptor));
    });
    if (side == Side::server) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
    }
  }
  ~TlsStream() override { close(); }

  base::Result<void> use(const X509Svid& svid) {
    STACK_OF(X509)* rest = sk_X509_new_null();
    for (std::size_t i = 1; i < svid.chain.size(); ++i) sk_X509_push(rest, svid.chain[i].get());
    const bool used = SSL_use_certificate(ssl_.get(), svid.chain.front().get()) == 1 &&
                      SSL_use_PrivateKey(ssl_.get(), svid.key.get()) == 1 && SSL_set1_chain(ssl_.get(), rest) == 1;
    sk_X509_free(rest);
    if (used) return {};
    return fail(Code::unavailable, "cannot use this process's SVID {}: {}", svid.id.text(), last_error());
  }

  base::Task<base::Result<void>> handshake(PeerCheck& check, base::TimePoint deadline) {
    SSL_set_app_data(ssl_.get(), &check);
    auto done = co_await shake_hands(deadline);
    SSL_set_app_data(ssl_.get(), nullptr);
    if (check.refusal) co_return std::unexpected(*check.refusal);
    if (!done) co_return done;
    peer_ = std::move(check.peer);
    more_ = true;  // what came with the peer's last message
    co_return base::Result<void>{};
  }

  bool negotiated_http2() const {
    const unsigned char* name = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return std::ranges::equal(std::span(name, size), std::span(kAlpn).subspan(1));
  }

  base::Result<std::optional<std::size_t>> read(std::span<char> into) override {
    if (closed_) return fail(Code::unavailable, "the connection is closed");
    for (auto& descriptor : std::exchange(early_, {})) {
      if (on_descriptor_) on_descriptor_(std::move(descriptor));
    }
    if (end_) return *end_;
    drained_ = false;
    std::size_t total = 0;
    while (total < into.size()) {
      ERR_clear_error();
      std::size_t got = 0;
      if (SSL_read_ex(ssl_.get(), into.data() + total, into.size() - total, &got) == 1) {
        total += got;
        continue;
      }
      const int why = SSL_get_error(ssl_.get(), 0);
      // An answer to the peer's change of keys has no room below: reading goes on when it has, so look again soon.
      answer_waits_ = why == SSL_ERROR_WANT_WRITE;
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        // A stream that ends without a goodbye has ended as well: HTTP/2 knows what is missing.
        if (why == SSL_ERROR_ZERO_RETURN || eof_) {
          end_.emplace(0);
        } else {
          end_.emplace(std::unexpected(failure(why)));
        }
        if (total == 0) return *end_;
      }
      more_ = end_.has_value();
      if (total == 0) return std::nullopt;
      return total;
    }
    more_ = true;
    return total;
  }

  // A record that does not fit is kept by OpenSSL; the bytes it was made of, not yet taken, are offered again.
  // When the peer has gone the bytes are lost, as a network would lose them: reading finds first what the peer said
  // before that (answers, HTTP/2's goodbye, the alert that tells why), then the end.
  base::Result<std::size_t> write(std::span<const char> bytes) override {
    if (closed_) return fail(Code::unavailable, "the connection is closed");
    std::size_t total = 0;
    while (total < bytes.size()) {
      if (write_broken_) return bytes.size();
      ERR_clear_error();
      std::size_t wrote = 0;
      if (SSL_write_ex(ssl_.get(), bytes.data() + total, bytes.size() - total, &wrote) == 1) {
        total += wrote;
        continue;
      }
      const int why = SSL_get_error(ssl_.get(), 0);
      if (why == SSL_ERROR_WANT_WRITE) break;
      if (!write_broken_) return std::unexpected(failure(why));
    }
    return total;
  }

  void when_readable(std::move_only_function<void(bool)> callback) override {
    if (answer_waits_ && !closed_) {
      scheduler_.post_at(scheduler_.now() + kAnswerRetry,
                         [callback = std::move(callback)]() mutable { callback(true); });
      return;
    }
    if (!more_ || closed_) return below_->when_readable(std::move(callback));
    scheduler_.post([callback = std::move(callback)]() mutable { callback(true); });
  }
  void when_writable(std::move_only_function<void(bool)> callback) override {
    below_->when_writable(std::move(callback));
  }

  void close() override {
    if (std::exchange(closed_, true)) return;
    if (SSL_is_init_finished(ssl_.get()) == 1 && !write_broken_) {
      SSL_shutdown(ssl_.get());  // says goodbye if there is room for it
      ERR_clear_error();
    }
    below_->close();
  }

  void attach(rpc::Descriptor descriptor) override { below_->attach(std::move(descriptor)); }
  void on_descriptor(std::function<void(rpc::Descriptor)> callback) override { on_descriptor_ = std::move(callback); }
  rpc::Peer peer() const override { return peer_; }
  int socket() const override { return below_->socket(); }
  bool encrypted() const override { return true; }

 private:
  static TlsStream& of(BIO* bio) { return *static_cast<TlsStream*>(BIO_get_data(bio)); }

  static int bio_read(BIO* bio, char* into, std::size_t size, std::size_t* got) {
    auto& self = of(bio);
    BIO_clear_retry_flags(bio);
    if (!self.drained_) {
      const auto read = self.below_->read({into, size});
      if (!read) {
        self.broken_ = read.error();
        return 0;
      }
      if (*read == 0U) {
        self.eof_ = true;
        return 0;
      }
      // After a short read there is nothing more for now; but a file's byte comes alone.
      self.drained_ = !*read || (**read > 1 && **read < size);
      if (*read) {
        *got = **read;
        return 1;
      }
    }
    BIO_set_retry_read(bio);
    return 0;
  }

  static int bio_write(BIO* bio, const char* bytes, std::size_t size, std::size_t* wrote) {
    auto& self = of(bio);
    BIO_clear_retry_flags(bio);
    const auto written = self.below_->write({bytes, size});
    if (!written) {
      self.broken_ = written.error();
      self.write_broken_ = true;
      return 0;
    }
    if (*written == 0) {
      BIO_set_retry_write(bio);
      return 0;
    }
    *wrote = *written;
    return 1;
  }

  static long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static const BIO_METHOD* bio_method() {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "byte stream");
      BIO_meth_set_read_ex(made, bio_read);
      BIO_meth_set_write_ex(made, bio_write);
      BIO_meth_set_ctrl(made, bio_control);
      return made;
    }();
    return method;
  }

  base::Task<base::Result<void>> shake_hands(base::TimePoint deadline) {
    while (true) {
      drained_ = false;
      ERR_clear_error();
      const int done = SSL_do_handshake(ssl_.get());
      if (done == 1) co_return base::Result<void>{};
      const int why = SSL_get_error(ssl_.get(), done);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) co_return std::unexpected(failure(why));
      base::OneShot<base::Result<bool>> ready(scheduler_);
      if (why == SSL_ERROR_WANT_READ) {
        below_->when_readable([ready](bool open) { ready.set(open); });
      } else {
        below_->when_writable([ready](bool open) { ready.set(open); });
      }
      const auto woken = co_await base::await_until(scheduler_, ready, deadline, base::StopToken());
      if (!woken) co_return fail(Code::unavailable, "the peer did not end the TLS handshake in time");
    }
  }

  // Why OpenSSL gave up.
  Error failure(int ssl_error) const {
    if (ssl_error == SSL_ERROR_SSL && !eof_) {
      const int reason = ERR_GET_REASON(ERR_peek_error());
      if (reason >= kFirstAlert) {
        last_error();
        return {Code::unavailable,
                fmt::format("the peer ended the connection with the TLS alert '{}': its log says why",
                            SSL_alert_desc_string_long(reason - kFirstAlert))};
      }
      return {Code::unavailable, fmt::format("the peer does not speak TLS as it should: {}", last_error())};
    }
    last_error();
    if (broken_) return {Code::unavailable, broken_->message()};
    return {Code::unavailable, "the peer hung up during the TLS handshake"};
  }

  base::Scheduler& scheduler_;
  const std::unique_ptr<ByteStream> below_;
  const SslPtr ssl_;
  rpc::Peer peer_;
  bool answer_waits_ = false;  // reading waits for room to write
  bool drained_ = false;       // nothing more to read below, until the next call of ours
  bool more_ = false;          // there may be more to read here, without anything coming from below
  bool eof_ = false;           // of the stream below
  bool write_broken_ = false;
  bool closed_ = false;
  std::vector<rpc::Descriptor> early_;  // files that came in the handshake
  std::function<void(rpc::Descriptor)> on_descriptor_;
  std::optional<Error> broken_;                                  // the stream below
  std::optional<base::Result<std::optional<std::size_t>>> end_;  // what read() says from now on
};

}  // namespace

base::Result<void> authorize_any(const SpiffeId&) { return {}; }

Authorize authorize_only(std::vector<std::string> trust_domains, std::vector<std::string> ids) {
  return [trust_domains = std::move(trust_domains), ids = std::move(ids)](const SpiffeId& peer) -> base::Result<void> {
    if (!trust_domains.empty() && std::ranges::find(trust_domains, peer.trust_domain()) == trust_domains.end()) {
      return fail(Code::permission_denied, "{}: its trust domain is not among the {} allowed ones", peer.text(),
                  trust_domains.size());
    }
    if (!ids.empty() && std::ranges::find(ids, peer.text()) == ids.end()) {
      return fail(Code::permission_denied, "{}: it is not among the {} allowed IDs", peer.text(), ids.size());
    }
    return {};
  };
}

Tls::Tls(base::Scheduler& scheduler, const Source& source, Authorize authorize)
    : scheduler_(scheduler), source_(source), authorize_(std::move(authorize)), context_(make_context()) {}

std::uint64_t Tls::epoch() const {
  if (auto now = source_.current(); now != newest_) {
    newest_ = std::move(now);
    ++epoch_;
  }
  return epoch_;
}

base::Task<base::Result<std::unique_ptr<ByteStream>>> Tls::secure(std::unique_ptr<ByteStream> socket, Side side,
                                                                  base::TimePoint deadline) {
  PeerCheck check{scheduler_, source_.current(), authorize_, {}, std::nullopt};
  if (!check.identity) {
    co_return fail(Code::unavailable, "this process has no SVID yet: the Workload API has to issue one first");
  }
  const X509Svid& svid = check.identity->svid;
  if (svid.expires() <= scheduler_.wall_now()) {
    co_return fail(Code::unavailable, "this process's SVID {} has expired: the Workload API has to issue a new one",
                   svid.id.text());
  }
  auto stream = std::make_unique<TlsStream>(scheduler_, std::move(socket), context_.get(), side);
  auto ready = stream->use(svid);
  if (ready) ready = co_await stream->handshake(check, deadline);
  if (ready && !stream->negotiated_http2()) {
    ready = fail(Code::unavailable, "the server does not speak HTTP/2 over TLS: ALPN has to be 'h2'");
  }
  if (ready) co_return std::move(stream);
  // Whoever listens logs what it refuses.
  if (side == Side::client) base::log::info("a connection was given up: {}", ready.error().message());
  co_return fail(Code::unavailable, "{}", ready.error().message());
}

}  // namespace identity
