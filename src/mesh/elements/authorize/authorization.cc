// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/authorize/authorization.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "identity/certificate.h"
#include "mesh/core/token.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using nlohmann::json;

namespace {

constexpr const char* kRefusal = "no sufficient privileges";  // NSM's peers look for these words

// Segments 0 to last of the path.
CheckedPath checked(const Path& path, int last, const rpc::Peer& peer) {
  CheckedPath result;
  result.index = path.index();
  result.peer = peer;
  for (int i = 0; i <= last && i < path.path_segments_size(); ++i) {
    result.tokens.push_back(path.path_segments(i).token());
    result.names.push_back(path.path_segments(i).name());
  }
  return result;
}

CheckedPath checked(const RegistrationPath& path, std::size_t count, const rpc::Peer& peer) {
  CheckedPath result;
  result.index = path.index;
  result.peer = peer;
  result.tokens.assign(path.tokens.begin(),
                       path.tokens.begin() + static_cast<std::ptrdiff_t>(std::min(count, path.tokens.size())));
  return result;
}

std::string pem(const rpc::Peer& peer) {
  auto certificates = identity::parse_certificates(peer.certificate);
  return certificates ? identity::to_pem(*certificates->front()) : std::string();
}

std::string finished(json input, const rpc::Peer& peer) {
  input["auth_info"]["certificate"] = pem(peer);
  return input.dump(-1, ' ', false, json::error_handler_t::replace);
}

// The part of the path that is looked at, as a policy server gets it.
std::string input_of(const Path& path, int last, const rpc::Peer& peer) {
  Path looked_at = path;
  if (looked_at.path_segments_size() > last + 1) {
    looked_at.mutable_path_segments()->DeleteSubrange(last + 1, looked_at.path_segments_size() - last - 1);
  }
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(looked_at, &text, options).ok()) text = "{}";
  return finished(json::parse(text, nullptr, false), peer);
}

std::string input_of(const CheckedPath& path, const Authorization::Registration& registration) {
  json input;
  input["resource_id"] = path.tokens.empty() ? std::string() : token_subject(path.tokens.front());
  input["resource_name"] = registration.name;
  input["resource_path_ids_map"] = json::object();
  if (!registration.owner_path_ids.empty()) {
    input["resource_path_ids_map"][registration.name] = registration.owner_path_ids;
  }
  input["path_segments"] = json::array();
  for (const std::string& token : path.tokens) input["path_segments"].push_back({{"token", token}});
  input["index"] = path.index;
  return finished(std::move(input), path.peer);
}

std::string first_subject(const CheckedPath& path) {
  return path.tokens.empty() ? std::string() : token_subject(path.tokens.front());
}

std::string name_of(const rpc::Peer& peer) { return peer.id.empty() ? "nobody known" : peer.id; }

}  // namespace

struct Authorization::Question {
  std::string what;  // for the log
  PolicySet policies;
  CheckedPath path;
  std::string taken_by;      // the name's owner, if it is somebody else's
  std::vector<Asked> asked;  // of the rules
  Verb verb = Verb::request;
  std::string input;  // of the policy server
};

std::unexpected<base::Error> Authorization::refuse(const std::string& what, const std::string& why) const {
  base::log::warning("refused {}: {}", what, why);
  return fail(Code::permission_denied, "{}", kRefusal);
}

Result<void> Authorization::check_locally(const Question& question) {
  auto held = check_tokens(question.policies, question.path, verifier_, scheduler_.wall_now());
  if (!held) return held;
  if (question.policies.has(Policy::client_allowed) && !question.taken_by.empty()) {
    return fail(Code::permission_denied, "{}: {} has registered the name", mesh::name_of(Policy::client_allowed),
                question.taken_by);
  }
  if (rules_ == nullptr) return {};
  // Tokens first: a rule about a name that nobody proved says nothing.
  for (Asked asked : question.asked) {
    asked.spiffe_id = first_subject(question.path);
    asked.peer = question.path.peer.id;
    if (rules_->rules().allow(question.verb, asked)) continue;
    return fail(Code::permission_denied, "no rule lets {} {} the service {}",
                asked.spiffe_id.empty() ? "somebody without an ID" : asked.spiffe_id, name_of(question.verb),
                asked.service);
  }
  return {};
}

Task<Result<void>> Authorization::check(const Question& question) {
  if (auto held = check_locally(question); !held) co_return refuse(question.what, held.error().message());
  if (opa_ == nullptr) co_return Result<void>();
  auto decided = co_await opa_->decide(question.input);
  if (!decided) co_return refuse(question.what, decided.error().message());
  if (!*decided) co_return refuse(question.what, "the policy server says no");
  co_return Result<void>();
}

Task<Result<void>> Authorization::check_call(const Connection& connection, const rpc::Peer& peer, Act act) {
  const int own = static_cast<int>(connection.path().index());
  Question question;
  question.what =
      fmt::format("{} of {} by {}", act == Act::request ? "Request" : "Close", describe(connection), name_of(peer));
  question.policies = sets_.server;
  question.path = checked(connection.path(), own, peer);
  if (act == Act::request) {
    Asked asked;
    asked.service = connection.network_service();
    asked.labels = ordered(connection.labels());
    question.asked.push_back(std::move(asked));
  }
  if (opa_ != nullptr) question.input = input_of(connection.path(), own, peer);
  co_return co_await check(question);
}

Task<Result<void>> Authorization::check_answer(const Connection& connection, const rpc::Peer& peer) {
  const int last = connection.path().path_segments_size() - 1;
  Question question;
  question.what = fmt::format("the answer about {} from {}", describe(connection), name_of(peer));
  question.policies = sets_.client;
  question.path = checked(connection.path(), last, peer);
  if (opa_ != nullptr) question.input = input_of(connection.path(), last, peer);
  co_return co_await check(question);
}

Task<Result<void>> Authorization::check_registration(const RegistrationPath& path, const rpc::Peer& peer,
                                                     const Registration& registration) {
  Question question;
  question.what = fmt::format("registration of {} {} by {}", registration.noun, registration.name, name_of(peer));
  question.policies = sets_.registry_server;
  question.path = checked(path, path.index + 1, peer);
  if (!registration.owner_path_ids.empty() && registration.owner_path_ids.front() != first_subject(question.path)) {
    question.taken_by = registration.owner_path_ids.front();
  }
  question.verb = Verb::offer;
  question.asked = registration.offers;
  if (opa_ != nullptr) question.input = input_of(question.path, registration);
  co_return co_await check(question);
}

Task<Result<void>> Authorization::check_registration_answer(const RegistrationPath& path, const rpc::Peer& peer,
                                                            const Registration& registration) {
  Question question;
  question.what =
      fmt::format("the registry's answer about {} {} from {}", registration.noun, registration.name, name_of(peer));
  question.policies = sets_.registry_client;
  question.path = checked(path, path.tokens.size(), peer);
  if (opa_ != nullptr) question.input = input_of(question.path, registration);
  co_return co_await check(question);
}

bool Authorization::may_watch(const Connection& connection, const rpc::Peer& peer) const {
  if (rules_ == nullptr) return true;
  Asked asked;
  asked.spiffe_id = asked.peer = peer.id;
  asked.service = connection.network_service();
  asked.labels = ordered(connection.labels());
  return rules_->rules().allow(Verb::monitor, asked);
}

}  // namespace mesh
