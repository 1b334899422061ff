// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize/opa_client.h"

#include <curl/curl.h>

#include <nlohmann/json.hpp>

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

constexpr std::size_t kMaxAnswer = 64 << 10;

// Takes what libcurl hands over; short of it, libcurl ends the transfer.
std::size_t collect(char* bytes, std::size_t one, std::size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + count > kMaxAnswer) return 0;
  body.append(bytes, count);
  return one * count;
}

}  // namespace

struct OpaClient::Handle {
  Handle() : curl(curl_easy_init()), headers(curl_slist_append(nullptr, "Content-Type: application/json")) {}
  ~Handle() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  Result<bool> ask(const std::string& url, const std::string& body, base::Duration time_left) {
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time_left).count();
    if (milliseconds <= 0) {
      return fail(Code::deadline_exceeded, "the policy server {} is too slow: earlier questions took all the time",
                  url);
    }
    std::string answer;
    long status = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(milliseconds));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    const CURLcode done = curl_easy_perform(curl);
    if (done != CURLE_OK)
      return fail(Code::unavailable, "the policy server {} did not answer: {}", url, curl_easy_strerror(done));
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) return fail(Code::unavailable, "the policy server {} answered with status {}", url, status);
    return parse_decision(answer);
  }

  CURL* const curl;
  curl_slist* const headers;
};

Result<bool> parse_decision(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_object()) {
    const auto result = json.find("result");
    if (result != json.end() && result->is_boolean()) return result->get<bool>();
  }
  return fail(Code::failed_precondition,
              "the policy server's answer has no result that is true or false: point PATCHBAY_OPA_URL at a rule that "
              "always is one");
}

Result<std::unique_ptr<OpaClient>> OpaClient::make(base::EventLoop& loop, std::string url, base::Duration patience) {
  if (!url.starts_with("http://") && !url.starts_with("https://")) {
    return fail(
        Code::invalid_argument,
        "PATCHBAY_OPA_URL is '{}': it must be http:// or https://, such as http://127.0.0.1:8181/v1/data/nsm/valid",
        url);
  }
  return std::unique_ptr<OpaClient>(new OpaClient(loop, std::move(url), patience));
}

OpaClient::OpaClient(base::EventLoop& loop, std::string url, base::Duration patience)
    : loop_(loop), url_(std::move(url)), patience_(patience), worker_(loop, "pb-opa") {
  static const CURLcode once = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(once);
  handle_ = std::make_unique<Handle>();
}

OpaClient::~OpaClient() = default;

Task<Result<bool>> OpaClient::decide(std::string input) {
  const base::TimePoint asked = loop_.now();
  auto question = [this, asked, body = R"({"input":)" + std::move(input) + '}'] {
    return handle_->ask(url_, body, patience_ - (loop_.now() - asked));
  };
  co_return co_await worker_.run(std::move(question));
}

}  // namespace mesh
