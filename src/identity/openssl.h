// SPDX-License-Identifier: Apache-2.0
// Owners of OpenSSL's objects, and its errors as text.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace identity {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

template <typename T, auto Free>
using Owned = std::unique_ptr<T, Freed<Free>>;

using KeyPtr = Owned<EVP_PKEY, &EVP_PKEY_free>;
using CertificatePtr = Owned<X509, &X509_free>;
using BioPtr = Owned<BIO, &BIO_free_all>;
using DigestPtr = Owned<EVP_MD_CTX, &EVP_MD_CTX_free>;

// Another owner of the same object.
KeyPtr share(EVP_PKEY* key);
CertificatePtr share(X509* certificate);

// What went wrong last on this thread; empties OpenSSL's queue.
std::string last_error();

}  // namespace identity
