// SPDX-License-Identifier: Apache-2.0
// For tests: trust domains, CAs and SVIDs, good and bad, made in memory.
//
//   Authority a("a.test");
//   FixedSource source(a.identity("/client"));                       // or a.identity("/client", {&b}) to trust b, too
//   X509Svid old = a.issue("/client", {.not_after = an_hour_ago});   // each field of Leaf is one way to be bad
#pragma once

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "identity/source.h"

namespace identity::testing {

enum class KeyKind { p256, p384, rsa2048, rsa1024 };

inline KeyPtr make_key(KeyKind kind = KeyKind::p256) {
  switch (kind) {
    case KeyKind::p256:
      return KeyPtr(EVP_EC_gen("P-256"));
    case KeyKind::p384:
      return KeyPtr(EVP_EC_gen("P-384"));
    case KeyKind::rsa2048:
      return KeyPtr(EVP_RSA_gen(2048));
    case KeyKind::rsa1024:
      return KeyPtr(EVP_RSA_gen(1024));
  }
  std::abort();
}

inline base::WallTime from_now(base::Duration delay) {
  return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now()) + delay;
}

// What a leaf is made of; the defaults make a good one.
struct Leaf {
  base::WallTime not_before = from_now(-std::chrono::hours(1));
  base::WallTime not_after = from_now(std::chrono::hours(1));
  std::optional<std::vector<std::string>> uris = std::nullopt;  // instead of the one SPIFFE ID
  bool ca = false;
  std::string key_usage = "critical,digitalSignature";  // OpenSSL's words; empty: none
  std::string extended_key_usage = "serverAuth,clientAuth";
  KeyKind key = KeyKind::p256;
};

// A certificate for the key, signed by the issuer; by itself without one.
inline CertificatePtr make_certificate(EVP_PKEY* key, const Leaf& leaf, const std::vector<std::string>& uris,
                                       const std::string& name, const X509* issuer, EVP_PKEY* issuer_key) {
  static long serial = 1;
  CertificatePtr made(X509_new());
  X509* const x509 = made.get();
  const auto check = [](bool good) {
    if (!good) std::abort();
  };
  const auto set_time = [](ASN1_TIME* field, base::WallTime time) {
    ASN1_TIME_set(field, std::chrono::system_clock::to_time_t(
                             std::chrono::time_point_cast<std::chrono::system_clock::duration>(time)));
  };
  X509_set_version(x509, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
  set_time(X509_getm_notBefore(x509), leaf.not_before);
  set_time(X509_getm_notAfter(x509), leaf.not_after);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()), -1, 0);
  X509_set_issuer_name(x509, X509_get_subject_name(issuer != nullptr ? issuer : x509));
  check(X509_set_pubkey(x509, key) == 1);

  X509V3_CTX context;
  X509V3_set_ctx(&context, const_cast<X509*>(issuer != nullptr ? issuer : x509), x509, nullptr, nullptr, 0);
  const auto extend = [&](int nid, const std::string& value) {
    if (value.empty()) return;
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    check(extension != nullptr && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
  };
  extend(NID_basic_constraints, leaf.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
  extend(NID_key_usage, leaf.key_usage);
  extend(NID_ext_key_usage, leaf.extended_key_usage);
  extend(NID_subject_key_identifier, "hash");
  if (issuer != nullptr) extend(NID_authority_key_identifier, "keyid");
  if (!uris.empty()) {
    GENERAL_NAMES* names = sk_GENERAL_NAME_new_null();
    for (const auto& uri : uris) {
      ASN1_IA5STRING* text = ASN1_IA5STRING_new();
      ASN1_STRING_set(text, uri.data(), static_cast<int>(uri.size()));
      GENERAL_NAME* entry = GENERAL_NAME_new();
      GENERAL_NAME_set0_value(entry, GEN_URI, text);
      sk_GENERAL_NAME_push(names, entry);
    }
    check(X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND) == 1);
    GENERAL_NAMES_free(names);
  }
  check(X509_sign(x509, issuer_key, EVP_sha256()) > 0);
  return made;
}

// Leaf first, as the Workload API and TLS have it.
inline std::string chain_der(const X509Svid& svid) {
  std::string der;
  for (const auto& certificate : svid.chain) der += to_der(*certificate);
  return der;
}

inline std::string key_pkcs8(const X509Svid& svid) {
  PKCS8_PRIV_KEY_INFO* wrapped = EVP_PKEY2PKCS8(svid.key.get());
  unsigned char* bytes = nullptr;
  const int size = i2d_PKCS8_PRIV_KEY_INFO(wrapped, &bytes);
  std::string der(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  PKCS8_PRIV_KEY_INFO_free(wrapped);
  return der;
}

// A trust domain's CA: a root or, from intermediate(), one that a root signed.
class Authority {
 public:
  explicit Authority(std::string trust_domain) : Authority(std::move(trust_domain), nullptr) {}

  const std::string& trust_domain() const { return trust_domain_; }
  const X509& certificate() const { return *certificate_; }
  EVP_PKEY& key() const { return *key_; }

  // The root's DER: what peers trust.
  std::string bundle() const { return to_der(root_ ? *root_ : *certificate_); }

  // Its SVIDs carry its certificate, too.
  Authority intermediate() const { return Authority(trust_domain_, this); }

  // Its SVIDs say that they are of another domain, which this CA has no business with.
  Authority posing_as(std::string trust_domain) const {
    Authority imposter(std::move(trust_domain), nullptr);
    imposter.key_ = share(key_.get());
    imposter.certificate_ = share(certificate_.get());
    if (root_) imposter.root_ = share(root_.get());
    return imposter;
  }

  X509Svid issue(std::string_view path, const Leaf& leaf = {}) const {
    return make_svid(path, leaf, certificate_.get(), key_.get());
  }

  // Signed by its own key.
  X509Svid self_signed(std::string_view path, const Leaf& leaf = {}) const {
    return make_svid(path, leaf, nullptr, nullptr);
  }

  // This SVID, trusting this domain and the others.
  std::shared_ptr<const Identity> identity(X509Svid svid, std::initializer_list<const Authority*> others = {}) const {
    auto made = std::make_shared<Identity>(Identity{std::move(svid), Bundles()});
    if (!made->bundles.set(trust_domain_, bundle())) std::abort();
    for (const Authority* other : others) {
      if (!made->bundles.set(other->trust_domain_, other->bundle())) std::abort();
    }
    return made;
  }
  std::shared_ptr<const Identity> identity(std::string_view path,
                                           std::initializer_list<const Authority*> others = {}) const {
    return identity(issue(path), others);
  }

 private:
  Authority(std::string trust_domain, const Authority* parent)
      : trust_domain_(std::move(trust_domain)), key_(make_key()) {
    Leaf authority;
    authority.ca = true;
    authority.not_before = from_now(-std::chrono::hours(24 * 365));
    authority.not_after = from_now(std::chrono::hours(24 * 365));
    authority.key_usage = "critical,keyCertSign,cRLSign";
    authority.extended_key_usage = "";
    const std::string name = trust_domain_ + (parent != nullptr ? " intermediate" : " root");
    certificate_ = make_certificate(key_.get(), authority, {"spiffe://" + trust_domain_}, name,
                                    parent != nullptr ? parent->certificate_.get() : nullptr,
                                    parent != nullptr ? parent->key_.get() : key_.get());
    if (parent != nullptr) root_ = share(parent->root_ ? parent->root_.get() : parent->certificate_.get());
  }

  X509Svid make_svid(std::string_view path, const Leaf& leaf, const X509* issuer, EVP_PKEY* issuer_key) const {
    const std::string id = "spiffe://" + trust_domain_ + std::string(path);
    X509Svid svid{*SpiffeId::parse(id), {}, make_key(leaf.key), ""};
    const std::vector<std::string> uris = leaf.uris.value_or(std::vector<std::string>{id});
    svid.chain.push_back(make_certificate(svid.key.get(), leaf, uris, "workload", issuer,
                                          issuer_key != nullptr ? issuer_key : svid.key.get()));
    if (root_) svid.chain.push_back(share(certificate_.get()));
    return svid;
  }

  std::string trust_domain_;
  KeyPtr key_;
  CertificatePtr certificate_;
  CertificatePtr root_;  // of an intermediate
};

}  // namespace identity::testing
