// SPDX-License-Identifier: Apache-2.0
#include "identity/server/ca.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "identity/jwt.h"
#include "identity/server/minting.h"
#include "identity/server/private_files.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;
using base::WallTime;

namespace {

constexpr std::string_view kFile = "/authority.pem";
constexpr base::Duration kLookInterval = std::chrono::minutes(1);  // at the clock, which may be set meanwhile

std::string pem_of_key(EVP_PKEY& key) {
  const BioPtr memory(BIO_new(BIO_s_secmem()));
  if (!memory || PEM_write_bio_PKCS8PrivateKey(memory.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return {};
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

int no_password(char*, int, int, void*) { return -1; }  // instead of asking the terminal

std::string uri_name(const X509& certificate) {
  using NamesPtr = Owned<GENERAL_NAMES, &GENERAL_NAMES_free>;
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (!names || sk_GENERAL_NAME_num(names.get()) != 1) return {};
  const auto* name = sk_GENERAL_NAME_value(names.get(), 0);
  if (name->type != GEN_URI) return {};
  const ASN1_STRING* text = name->d.uniformResourceIdentifier;
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<std::size_t>(ASN1_STRING_length(text))};
}

}  // namespace

WallTime Ca::Root::made() const { return not_before(*certificate) + kBackdate; }

Ca::Ca(SpiffeId id, std::string file, base::Duration root_lifetime)
    : id_(std::move(id)), trust_domain_(id_.trust_domain()), file_(std::move(file)), root_lifetime_(root_lifetime) {}

Result<Ca> Ca::load(std::string trust_domain, const std::string& directory, base::Duration root_lifetime,
                    WallTime now) {
  auto id = SpiffeId::parse("spiffe://" + trust_domain);
  if (!id) return std::unexpected(id.error());
  Ca ca(std::move(*id), directory + std::string(kFile), root_lifetime);
  const auto text = read_private_file(ca.file_);
  if (!text) return std::unexpected(text.error());
  if (!*text) return ca;
  if (auto parsed = ca.parse(**text); !parsed) {
    return fail(parsed.error().code(),
                "the CA's file {} cannot be used: {}: restore it from a copy, or move it away to begin with a new CA "
                "(every node has to join anew then)",
                ca.file_, parsed.error().message());
  }
  std::erase_if(ca.roots_, [&](const Root& root) { return root.expires() <= now; });
  ca.publish();
  return ca;
}

Result<Ca> Ca::open(std::string trust_domain, std::string directory, base::Duration root_lifetime, WallTime now) {
  if (auto made = make_private_directory(directory); !made) return std::unexpected(made.error());
  auto ca = load(std::move(trust_domain), directory, root_lifetime, now);
  if (!ca) return ca;
  if (const auto rotated = ca->rotate(now); !rotated) return std::unexpected(rotated.error());
  return ca;
}

Result<Ca> Ca::read(std::string trust_domain, const std::string& directory, WallTime now) {
  auto ca = load(std::move(trust_domain), directory, kDefaultRootLifetime, now);
  if (!ca) return ca;
  if (ca->roots_.empty()) {
    return fail(Code::failed_precondition, "there is no CA in {}: start the one that shall be it first", directory);
  }
  return ca;
}

// A certificate, its key and the JWT key, and so on.
Result<void> Ca::parse(std::string_view text) {
  const BioPtr memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const auto damaged = [&](std::string_view what) {
    last_error();
    return fail(Code::data_loss, "{} of root {} is damaged or missing", what, roots_.size() + 1);
  };
  const auto read_key = [&]() -> Result<KeyPtr> {
    const KeyPtr key(PEM_read_bio_PrivateKey(memory.get(), nullptr, &no_password, nullptr));
    if (!key) return damaged("a key");
    const auto pkcs8 = to_pkcs8(*key);
    if (!pkcs8) return std::unexpected(pkcs8.error());
    return parse_private_key(*pkcs8);
  };
  while (!BIO_eof(memory.get())) {
    CertificatePtr certificate(PEM_read_bio_X509(memory.get(), nullptr, &no_password, nullptr));
    if (!certificate) return damaged("the certificate");
    auto key = read_key();
    if (!key) return std::unexpected(key.error());
    auto jwt_key = read_key();
    if (!jwt_key) return std::unexpected(jwt_key.error());
    if (X509_check_private_key(certificate.get(), key->get()) != 1) {
      last_error();
      return fail(Code::data_loss, "the key of root {} is not its certificate's", roots_.size() + 1);
    }
    if (X509_check_ca(certificate.get()) != 1 || X509_verify(certificate.get(), key->get()) != 1) {
      last_error();
      return fail(Code::data_loss, "the certificate of root {} is not a self-signed CA's", roots_.size() + 1);
    }
    if (const auto name = uri_name(*certificate); name != id_.text()) {
      return fail(Code::failed_precondition, "it is the CA of '{}', not of trust domain {}", name, trust_domain_);
    }
    roots_.push_back({std::move(certificate), std::move(*key), std::move(*jwt_key)});
  }
  if (roots_.empty()) return fail(Code::data_loss, "it is empty");
  return {};
}

Result<std::string> Ca::print() const {
  std::string text;
  for (const auto& root : roots_) {
    const auto key = pem_of_key(*root.key);
    const auto jwt_key = pem_of_key(*root.jwt_key);
    if (key.empty() || jwt_key.empty()) return fail(Code::internal, "cannot write a key as PEM: {}", last_error());
    text += to_pem(*root.certificate) + key + jwt_key;
  }
  return text;
}

const Ca::Root* Ca::signer(WallTime now) const {
  const Root* found = nullptr;
  for (const auto& root : roots_) {
    if (root.expires() <= now) continue;
    if (found == nullptr || root.made() + root.life() / 6 <= now || !found->valid(now)) found = &root;
  }
  return found;
}

void Ca::publish() {
  auto trust = std::make_shared<Trust>();
  for (const auto& root : roots_) {
    trust->roots += to_der(*root.certificate);
    auto key = parse_public_key(public_to_der(*root.jwt_key));
    if (key) trust->jwt_keys.push_back({key_id(*root.jwt_key), std::shared_ptr<EVP_PKEY>(std::move(*key))});
  }
  trust_ = std::move(trust);
}

Result<bool> Ca::rotate(WallTime now) {
  const auto expired = std::erase_if(roots_, [&](const Root& root) { return root.expires() <= now; });
  // Also when all roots are of a time that has not come: the clock was ahead when they were made.
  const auto* const current = signer(now);
  const bool make =
      current == nullptr || !current->valid(now) || roots_.back().made() + roots_.back().life() / 2 <= now;
  if (make) {
    auto key = new_key();
    auto jwt_key = new_key();
    if (!key || !jwt_key) return std::unexpected(key ? jwt_key.error() : key.error());
    auto certificate = new_root(id_, **key, now, now + root_lifetime_);
    if (!certificate) return std::unexpected(certificate.error());
    roots_.push_back({std::move(*certificate), std::move(*key), std::move(*jwt_key)});
    auto text = print();
    const auto wrote = text ? write_private_file(file_, *text) : std::unexpected(text.error());
    if (text) OPENSSL_cleanse(text->data(), text->size());
    if (!wrote) {
      roots_.pop_back();  // what is not on the disk would be forgotten by a restart
      return std::unexpected(wrote.error());
    }
  }
  if (!make && expired == 0) return false;
  publish();
  return true;
}

Result<CertificatePtr> Ca::issue(const SpiffeId& id, EVP_PKEY& subject_key, base::Duration lifetime,
                                 WallTime now) const {
  const Root* const root = signer(now);
  if (root == nullptr) return fail(Code::failed_precondition, "the CA of {} has no valid root", trust_domain_);
  return new_leaf(id, subject_key, *root->certificate, *root->key, now, std::min(now + lifetime, root->expires()));
}

Result<X509Svid> Ca::issue(const SpiffeId& id, base::Duration lifetime, WallTime now) const {
  auto key = new_key();
  if (!key) return std::unexpected(key.error());
  auto leaf = issue(id, **key, lifetime, now);
  if (!leaf) return std::unexpected(leaf.error());
  X509Svid svid{id, {}, std::move(*key), {}};
  svid.chain.push_back(std::move(*leaf));
  return svid;
}

Result<std::string> Ca::sign_jwt(const SpiffeId& id, const std::vector<std::string>& audience, WallTime now) const {
  const Root* const root = signer(now);
  if (root == nullptr) return fail(Code::failed_precondition, "the CA of {} has no valid root", trust_domain_);
  const auto seconds = [](WallTime time) {
    return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  };
  using nlohmann::json;
  const json header{{"alg", "ES256"}, {"kid", key_id(*root->jwt_key)}, {"typ", "JWT"}};
  const json claims{{"aud", audience},
                    {"exp", seconds(std::min(now + kJwtLifetime, root->expires()))},
                    {"iat", seconds(now)},
                    {"sub", id.text()}};
  return identity::sign_jwt(header.dump(), claims.dump(-1, ' ', false, json::error_handler_t::replace), *root->jwt_key);
}

LocalAuthority::LocalAuthority(base::Scheduler& scheduler, Ca ca, base::Duration svid_lifetime)
    : Authority(scheduler),
      scheduler_(scheduler),
      ca_(std::move(ca)),
      svid_lifetime_(svid_lifetime),
      timer_(scheduler) {
  look_again();
}

void LocalAuthority::look_again() {
  const auto changed = ca_.rotate(scheduler_.wall_now());
  if (!changed) {
    base::log::error("the CA cannot make its next root: {}", changed.error().message());
  } else if (*changed) {
    base::log::info("the CA of {} has {} roots now", ca_.trust_domain(), ca_.roots());
    this->changed().notify();
  }
  timer_.set(scheduler_.now() + std::min(kLookInterval, ca_.root_lifetime() / 50), [this] { look_again(); });
}

base::Task<Result<X509Svid>> LocalAuthority::issue(SpiffeId id) {
  co_return ca_.issue(id, svid_lifetime_, scheduler_.wall_now());
}

base::Task<Result<std::string>> LocalAuthority::sign_jwt(SpiffeId id, std::vector<std::string> audience) {
  co_return ca_.sign_jwt(id, audience, scheduler_.wall_now());
}

}  // namespace identity
