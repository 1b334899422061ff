// SPDX-License-Identifier: Apache-2.0
#include "identity/certificate.h"

#include <openssl/core_names.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <optional>

namespace identity {

using base::Code;
using base::fail;

namespace {

using NamesPtr = Owned<GENERAL_NAMES, &GENERAL_NAMES_free>;
using StorePtr = Owned<X509_STORE, &X509_STORE_free>;
using StoreContextPtr = Owned<X509_STORE_CTX, &X509_STORE_CTX_free>;

void free_stack(STACK_OF(X509) * stack) { sk_X509_free(stack); }  // not what is in it
using StackPtr = Owned<STACK_OF(X509), &free_stack>;

constexpr std::int64_t kLastSecond = 9'000'000'000;  // the year 2255: base::WallTime ends in 2262

base::WallTime to_time(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return base::WallTime::min();
  const std::int64_t seconds = ::timegm(&parts);
  return seconds > kLastSecond ? base::WallTime::max() : base::WallTime(std::chrono::seconds(seconds));
}

bool on_p256(const EVP_PKEY& key) {
  if (EVP_PKEY_get_base_id(&key) != EVP_PKEY_EC) return false;
  char group[32] = "";
  std::size_t length = 0;
  return EVP_PKEY_get_utf8_string_param(&key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, &length) == 1 &&
         std::string_view(group) == SN_X9_62_prime256v1;
}

}  // namespace

base::Result<std::vector<CertificatePtr>> parse_certificates(std::string_view der) {
  std::vector<CertificatePtr> out;
  const auto* next = reinterpret_cast<const unsigned char*>(der.data());
  const auto* const end = next + der.size();
  while (next < end) {
    CertificatePtr certificate(d2i_X509(nullptr, &next, static_cast<long>(end - next)));
    if (!certificate) {
      return fail(Code::invalid_argument, "certificate {} of {} bytes is not X.509 in DER: {}", out.size() + 1,
                  der.size(), last_error());
    }
    out.push_back(std::move(certificate));
  }
  if (out.empty()) return fail(Code::invalid_argument, "there is no certificate where at least one is needed");
  return out;
}

std::string to_der(const X509& certificate) {
  unsigned char* bytes = nullptr;
  const int length = i2d_X509(&certificate, &bytes);
  std::string out(reinterpret_cast<char*>(bytes), length > 0 ? static_cast<std::size_t>(length) : 0);
  OPENSSL_free(bytes);
  return out;
}

std::string to_pem(const X509& certificate) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(memory.get(), &certificate);
  char* text = nullptr;
  const long length = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(length)};
}

base::WallTime not_before(const X509& certificate) { return to_time(X509_get0_notBefore(&certificate)); }
base::WallTime not_after(const X509& certificate) { return to_time(X509_get0_notAfter(&certificate)); }

base::Result<KeyPtr> parse_private_key(std::string_view pkcs8) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(pkcs8.data());
  KeyPtr key(d2i_AutoPrivateKey(nullptr, &bytes, static_cast<long>(pkcs8.size())));
  if (!key) return fail(Code::invalid_argument, "the private key is not PKCS#8 in DER: {}", last_error());
  if (!on_p256(*key)) {
    return fail(
        Code::invalid_argument,
        "the private key is {}, but path tokens need ECDSA on P-256: have the SVID issued with key type ec-p256",
        OBJ_nid2sn(EVP_PKEY_get_base_id(key.get())));
  }
  return key;
}

base::Result<SpiffeId> leaf_id(const X509& leaf) {
  const auto refuse = [](std::string_view why) {
    return fail(Code::permission_denied, "the certificate is no X.509-SVID: {}", why);
  };
  const NamesPtr names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&leaf, NID_subject_alt_name, nullptr, nullptr)));
  std::optional<std::string> uri;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    if (uri) return refuse("it has more than one URI name");
    const ASN1_STRING* text = name->d.uniformResourceIdentifier;
    uri.emplace(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                static_cast<std::size_t>(ASN1_STRING_length(text)));
  }
  if (!uri) return refuse("it has no URI name");
  auto id = SpiffeId::parse(*uri);
  if (!id) return refuse(id.error().message());
  // Also fills in what the flags below are read from.
  const std::uint32_t flags = X509_get_extension_flags(const_cast<X509*>(&leaf));
  if ((flags & EXFLAG_INVALID) != 0) return refuse("its extensions cannot be read");
  if ((flags & EXFLAG_CA) != 0) return refuse("it is a CA's");
  if ((flags & EXFLAG_KUSAGE) != 0) {
    const std::uint32_t usage = X509_get_key_usage(const_cast<X509*>(&leaf));
    if ((usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0) return refuse("its key may sign certificates or CRLs");
    if ((usage & KU_DIGITAL_SIGNATURE) == 0) return refuse("its key may not sign");
  }
  return id;
}

base::Result<void> Bundles::set(const std::string& trust_domain, std::string_view der) {
  auto name = parse_trust_domain(trust_domain);
  if (!name) return std::unexpected(name.error());
  auto certificates = parse_certificates(der);
  if (!certificates) return std::unexpected(certificates.error().wrap("bundle of " + trust_domain));
  auto& roots = domains_[*name];
  roots.clear();
  for (auto& certificate : *certificates) roots.emplace_back(certificate.release(), X509_free);
  return {};
}

std::span<const std::shared_ptr<X509>> Bundles::roots(std::string_view trust_domain) const {
  const auto found = domains_.find(trust_domain);
  if (found == domains_.end()) return {};
  return found->second;
}

base::Result<SpiffeId> verify_chain(std::span<const CertificatePtr> chain, const Bundles& bundles, base::WallTime now) {
  if (chain.empty()) return fail(Code::permission_denied, "there is no certificate");
  X509* const leaf = chain.front().get();
  auto id = leaf_id(*leaf);
  if (!id) return id;
  const auto roots = bundles.roots(id->trust_domain());
  if (roots.empty()) {
    return fail(Code::permission_denied,
                "{}: nothing is known of trust domain '{}': federate with it, or use an SVID of a known one",
                id->text(), id->trust_domain());
  }
  const StorePtr store(X509_STORE_new());
  for (const auto& root : roots) X509_STORE_add_cert(store.get(), root.get());
  const StackPtr intermediates(sk_X509_new_null());
  for (const auto& certificate : chain.subspan(1)) sk_X509_push(intermediates.get(), certificate.get());
  const StoreContextPtr context(X509_STORE_CTX_new());
  if (!store || !intermediates || !context ||
      X509_STORE_CTX_init(context.get(), store.get(), leaf, intermediates.get()) != 1) {
    return fail(Code::internal, "cannot verify a certificate: {}", last_error());
  }
  // An authority of a bundle is trusted whether or not somebody signed it.
  X509_STORE_CTX_set_flags(context.get(), X509_V_FLAG_PARTIAL_CHAIN);
  X509_STORE_CTX_set_time(context.get(), 0, std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count());
  if (X509_verify_cert(context.get()) != 1) {
    const int error = X509_STORE_CTX_get_error(context.get());
    last_error();
    return fail(Code::permission_denied, "{}: {}", id->text(), X509_verify_cert_error_string(error));
  }
  return id;
}

base::Result<X509Svid> parse_svid(std::string_view id, std::string_view chain_der, std::string_view key_pkcs8) {
  auto wanted = SpiffeId::parse(id);
  if (!wanted) return std::unexpected(wanted.error());
  auto chain = parse_certificates(chain_der);
  if (!chain) return std::unexpected(chain.error().wrap(wanted->text()));
  auto key = parse_private_key(key_pkcs8);
  if (!key) return std::unexpected(key.error().wrap(wanted->text()));
  auto found = leaf_id(*chain->front());
  if (!found) return fail(Code::invalid_argument, "{}: {}", wanted->text(), found.error().message());
  if (*found != *wanted) {
    return fail(Code::invalid_argument, "the certificate that came for {} is {}'s", wanted->text(), found->text());
  }
  if (X509_check_private_key(chain->front().get(), key->get()) != 1) {
    last_error();
    return fail(Code::invalid_argument, "{}: the private key is not the certificate's", wanted->text());
  }
  return X509Svid{std::move(*wanted), std::move(*chain), std::move(*key), {}};
}

}  // namespace identity
