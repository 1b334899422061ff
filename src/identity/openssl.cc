// SPDX-License-Identifier: Apache-2.0
#include "identity/openssl.h"

#include <openssl/err.h>

#include <array>

namespace identity {

KeyPtr share(EVP_PKEY* key) {
  if (key != nullptr) EVP_PKEY_up_ref(key);
  return KeyPtr(key);
}

CertificatePtr share(X509* certificate) {
  if (certificate != nullptr) X509_up_ref(certificate);
  return CertificatePtr(certificate);
}

std::string last_error() {
  const auto code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  // error:0A000086:SSL routines::certificate verify failed
  const std::string whole(text.data());
  const auto colon = whole.rfind(':');
  return colon == std::string::npos || colon + 1 == whole.size() ? whole : whole.substr(colon + 1);
}

}  // namespace identity
