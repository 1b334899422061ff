// SPDX-License-Identifier: Apache-2.0
#include "identity/server/join_token.h"

#include <openssl/sha.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "base/environment.h"
#include "identity.pb.h"
#include "identity/jwt.h"
#include "identity/server/minting.h"
#include "identity/server/private_files.h"

namespace identity {

using base::Code;
using base::fail;
using base::Result;

namespace proto = patchbay::identity;

namespace {

constexpr base::Duration kMostLifetime = std::chrono::hours(7 * 24);

std::string join_directory(const std::string& directory) { return directory + "/join"; }
std::string token_directory(const std::string& directory) { return directory + "/join/tokens"; }

std::string token_file(const std::string& directory, std::string_view certificate) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(certificate.data()), certificate.size(), digest.data());
  std::string name;
  for (const auto byte : digest) name += fmt::format("{:02x}", byte);
  return token_directory(directory) + "/" + name;
}

// Files of tokens that nobody can use any more. Failures leave a file that does no harm.
void sweep(const std::string& directory) {
  std::error_code ignored;
  const auto oldest = std::filesystem::file_time_type::clock::now() - 2 * kMostLifetime;
  for (const auto& entry : std::filesystem::directory_iterator(token_directory(directory), ignored)) {
    std::error_code error;
    if (entry.last_write_time(error) < oldest && !error) std::filesystem::remove(entry.path(), error);
  }
}

}  // namespace

std::string join_domain(std::string_view trust_domain) { return "join." + std::string(trust_domain); }

std::string node_id(std::string_view trust_domain, std::string_view node) {
  return fmt::format("spiffe://{}{}/node/{}", trust_domain, kReservedPath, node);
}

Result<void> check_node_name(std::string_view node) {
  if (node.find('/') == std::string_view::npos && SpiffeId::parse(node_id("example.org", node))) return {};
  return fail(Code::invalid_argument, "'{}' cannot be a node's name: use letters, digits, '.', '-' and '_'", node);
}

Result<Ca> open_join_ca(std::string_view trust_domain, const std::string& directory, base::Duration root_lifetime,
                        base::WallTime now) {
  auto ca = Ca::open(join_domain(trust_domain), join_directory(directory), root_lifetime, now);
  if (!ca) return ca;
  if (auto made = make_private_directory(token_directory(directory)); !made) return std::unexpected(made.error());
  return ca;
}

Result<std::string> make_join_token(const std::string& trust_domain, const std::string& directory,
                                    const std::string& node, base::Duration lifetime, base::WallTime now) {
  if (auto fits = check_node_name(node); !fits) return std::unexpected(fits.error());
  if (lifetime <= base::Duration::zero() || lifetime > kMostLifetime) {
    return fail(Code::invalid_argument, "a token cannot live {}: give it more than 0s and at most {}",
                base::format_duration(lifetime), base::format_duration(kMostLifetime));
  }
  const auto ca = Ca::read(trust_domain, directory, now);
  if (!ca) return std::unexpected(ca.error());
  const auto join_ca = Ca::read(join_domain(trust_domain), join_directory(directory), now);
  if (!join_ca) {
    return std::unexpected(join_ca.error().wrap("no node can join yet, start with PATCHBAY_IDENTITY_LISTEN_ON"));
  }
  const auto id = SpiffeId::parse(fmt::format("spiffe://{}/{}", join_domain(trust_domain), node));
  if (!id) return std::unexpected(id.error());
  const auto svid = join_ca->issue(*id, lifetime, now);
  if (!svid) return std::unexpected(svid.error());
  auto key = to_pkcs8(*svid->key);
  if (!key) return std::unexpected(key.error());

  proto::JoinToken token;
  token.set_certificate(to_der(svid->leaf()));
  token.set_key(std::move(*key));
  token.set_roots(ca->trust()->roots);
  sweep(directory);
  if (auto wrote = write_private_file(token_file(directory, token.certificate()), node); !wrote) {
    return std::unexpected(wrote.error());
  }
  return base64url_encode(token.SerializeAsString());
}

Result<JoinToken> parse_join_token(std::string_view text) {
  const auto bytes = base64url_decode(text);
  proto::JoinToken token;
  if (!bytes || bytes->empty() || !token.ParseFromString(*bytes)) {
    return fail(Code::invalid_argument,
                "the join token cannot be read: copy the whole line that `patchbay identity token` printed");
  }
  const auto certificates = parse_certificates(token.certificate());
  if (!certificates) return std::unexpected(certificates.error().wrap("join token"));
  const auto id = leaf_id(*certificates->front());
  if (!id) return std::unexpected(id.error().wrap("join token"));
  auto svid = parse_svid(id->text(), token.certificate(), token.key());
  if (!svid) return std::unexpected(svid.error().wrap("join token"));
  return JoinToken{std::move(*svid), token.roots()};
}

Result<std::string> take_join_token(const std::string& directory, const std::string& certificate) {
  const auto path = token_file(directory, certificate);
  auto node = read_private_file(path);
  if (!node) return std::unexpected(node.error());
  // Whoever removes the file has the token; a second one finds none.
  if (!*node || ::unlink(path.c_str()) != 0) {
    return fail(Code::permission_denied,
                "the join token has been used: make another one with `patchbay identity token --node NAME`");
  }
  return std::move(**node);
}

}  // namespace identity
