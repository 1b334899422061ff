// SPDX-License-Identifier: Apache-2.0
#include "identity/server/minting.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <array>

namespace identity {

using base::Code;
using base::fail;
using base::Result;

namespace {

using BignumPtr = Owned<BIGNUM, &BN_free>;
using CsrPtr = Owned<X509_REQ, &X509_REQ_free>;
using ExtensionPtr = Owned<X509_EXTENSION, &X509_EXTENSION_free>;
using Pkcs8Ptr = Owned<PKCS8_PRIV_KEY_INFO, &PKCS8_PRIV_KEY_INFO_free>;

constexpr int kSerialBits = 127;  // positive, and unguessable (RFC 5280 section 4.1.2.2 allows 20 bytes)
constexpr long kVersion3 = 2;

template <typename T, typename Encode>
std::string der(T* object, Encode encode) {
  unsigned char* bytes = nullptr;
  const int size = encode(object, &bytes);
  if (size <= 0) return {};
  std::string text(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_cleanse(bytes, static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  return text;
}

std::unexpected<base::Error> cannot(std::string_view what) {
  return fail(Code::internal, "cannot make {}: {}", what, last_error());
}

std::time_t seconds(base::WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

bool is_p256(EVP_PKEY& key) {
  std::array<char, 32> group{};
  return EVP_PKEY_is_a(&key, "EC") == 1 && EVP_PKEY_get_group_name(&key, group.data(), group.size(), nullptr) == 1 &&
         std::string_view(group.data()) == "prime256v1";
}

bool set_serial(X509& certificate) {
  const BignumPtr number(BN_new());
  return number && BN_rand(number.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(&certificate)) != nullptr;
}

bool set_validity(X509& certificate, base::WallTime now, base::WallTime expires) {
  return ASN1_TIME_set(X509_getm_notBefore(&certificate), seconds(now - kBackdate)) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(&certificate), seconds(expires)) != nullptr;
}

bool add_name(X509_NAME* name, const char* field, const std::string& value) {
  return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()),
                                    static_cast<int>(value.size()), -1, 0) == 1;
}

// value: as in OpenSSL's configuration files. A SPIFFE ID has none of the characters that mean something there.
bool add_extension(X509& certificate, X509& issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_nconf_nid(nullptr, &context, nid, value.c_str()));
  return extension && X509_add_ext(&certificate, extension.get(), -1) == 1;
}

}  // namespace

Result<KeyPtr> new_key() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return cannot("a key");
  return key;
}

Result<std::string> to_pkcs8(EVP_PKEY& key) {
  const Pkcs8Ptr info(EVP_PKEY2PKCS8(&key));
  auto bytes = info ? der(info.get(), &i2d_PKCS8_PRIV_KEY_INFO) : std::string();
  if (bytes.empty()) return cannot("a key's PKCS#8 form");
  return bytes;
}

std::string public_to_der(EVP_PKEY& key) { return der(&key, &i2d_PUBKEY); }

Result<KeyPtr> parse_public_key(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = bytes + text.size();
  KeyPtr key(d2i_PUBKEY(nullptr, &bytes, static_cast<long>(text.size())));
  if (!key || bytes != end || !is_p256(*key)) {
    last_error();
    return fail(Code::invalid_argument, "{} bytes are not the public part of an ECDSA key on P-256", text.size());
  }
  return key;
}

std::string key_id(EVP_PKEY& key) {
  const auto bytes = public_to_der(key);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  std::string text;
  for (std::size_t i = 0; i < 16; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

Result<CertificatePtr> new_root(const SpiffeId& trust_domain, EVP_PKEY& key, base::WallTime now,
                                base::WallTime expires) {
  CertificatePtr root(X509_new());
  if (!root) return cannot("a root");
  auto* const name = X509_get_subject_name(root.get());
  // Roots of one domain have different names, so that nobody takes one for another.
  const bool made = X509_set_version(root.get(), kVersion3) == 1 && set_serial(*root) &&
                    set_validity(*root, now, expires) && add_name(name, "O", "Patchbay") &&
                    add_name(name, "CN", "root " + key_id(key)) && X509_set_issuer_name(root.get(), name) == 1 &&
                    X509_set_pubkey(root.get(), &key) == 1 &&
                    add_extension(*root, *root, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    add_extension(*root, *root, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                    add_extension(*root, *root, NID_subject_key_identifier, "hash") &&
                    add_extension(*root, *root, NID_subject_alt_name, "URI:" + trust_domain.text()) &&
                    X509_sign(root.get(), &key, EVP_sha256()) > 0;
  if (!made) return cannot("a root");
  return root;
}

Result<CertificatePtr> new_leaf(const SpiffeId& id, EVP_PKEY& subject_key, X509& root, EVP_PKEY& root_key,
                                base::WallTime now, base::WallTime expires) {
  CertificatePtr leaf(X509_new());
  if (!leaf) return cannot("a certificate");
  const bool made = X509_set_version(leaf.get(), kVersion3) == 1 && set_serial(*leaf) &&
                    set_validity(*leaf, now, expires) && add_name(X509_get_subject_name(leaf.get()), "O", "Patchbay") &&
                    X509_set_issuer_name(leaf.get(), X509_get_subject_name(&root)) == 1 &&
                    X509_set_pubkey(leaf.get(), &subject_key) == 1 &&
                    add_extension(*leaf, root, NID_basic_constraints, "critical,CA:FALSE") &&
                    add_extension(*leaf, root, NID_key_usage, "critical,digitalSignature") &&
                    add_extension(*leaf, root, NID_ext_key_usage, "serverAuth,clientAuth") &&
                    add_extension(*leaf, root, NID_subject_key_identifier, "hash") &&
                    add_extension(*leaf, root, NID_authority_key_identifier, "keyid:always") &&
                    add_extension(*leaf, root, NID_subject_alt_name, "URI:" + id.text()) &&
                    X509_sign(leaf.get(), &root_key, EVP_sha256()) > 0;
  if (!made) return cannot("a certificate for " + id.text());
  return leaf;
}

Result<std::string> new_csr(EVP_PKEY& key) {
  const CsrPtr csr(X509_REQ_new());
  const bool made = csr && X509_REQ_set_version(csr.get(), 0) == 1 && X509_REQ_set_pubkey(csr.get(), &key) == 1 &&
                    X509_REQ_sign(csr.get(), &key, EVP_sha256()) > 0;
  if (!made) return cannot("a certificate signing request");
  return der(csr.get(), &i2d_X509_REQ);
}

Result<KeyPtr> parse_csr(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = bytes + text.size();
  const CsrPtr csr(d2i_X509_REQ(nullptr, &bytes, static_cast<long>(text.size())));
  KeyPtr key(csr && bytes == end ? X509_REQ_get_pubkey(csr.get()) : nullptr);
  if (!key) {
    last_error();
    return fail(Code::invalid_argument, "{} bytes are not a certificate signing request (PKCS#10, DER)", text.size());
  }
  if (!is_p256(*key)) {
    return fail(Code::invalid_argument,
                "the certificate signing request is for another kind of key: use ECDSA on P-256");
  }
  if (X509_REQ_verify(csr.get(), key.get()) != 1) {
    last_error();
    return fail(Code::invalid_argument, "the certificate signing request is not signed with the key it is for");
  }
  return key;
}

}  // namespace identity
