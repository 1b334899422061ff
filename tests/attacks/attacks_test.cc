// SPDX-License-Identifier: Apache-2.0
// The table of attacks. Each row says what an attacker does and with which code it is refused. Beside each attack the
// same call is made honestly and must succeed, so that a refusal is the attack's and not the test's.
#include <gmock/gmock.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <sys/socket.h>

#include "base/log.h"
#include "google/protobuf/empty.pb.h"
#include "guarded_mesh.h"
#include "identity/certificate.h"

namespace attacks {
namespace {

using base::Code;
using base::Result;
using google::protobuf::Empty;
using mesh::Connection;
using mesh::NetworkServiceEndpoint;
using mesh::NetworkServiceRequest;
using namespace std::chrono_literals;

Result<void> outcome(const auto& result) {
  if (result) return {};
  return std::unexpected(result.error());
}

void expect_accepted(const auto& result) {
  EXPECT_TRUE(result) << "the honest call is refused: " << result.error().message();
}

// Tokens, made by hand.

std::int64_t seconds(fakes::World& world, base::Duration from_now) {
  return std::chrono::duration_cast<std::chrono::seconds>((world.scheduler.wall_now() + from_now).time_since_epoch())
      .count();
}

ordered_json claims(GuardedMesh& mesh, const Member& subject, const Member& audience) {
  ordered_json json;
  json["aud"] = ordered_json::array({audience.id()});
  json["exp"] = seconds(mesh.world, 10min);
  json["sub"] = subject.id();
  return json;
}

std::string signed_by(const Member& member, const ordered_json& json, const std::string& header = kEs256) {
  return identity::sign_jwt(header, json.dump(), member.key()).value();
}

std::string unsigned_part(const ordered_json& json, const std::string& header) {
  return identity::base64url_encode(header) + '.' + identity::base64url_encode(json.dump());
}

// HS256 with what everybody knows: the public key of the member, as PEM.
std::string signed_with_public_key(const Member& member, const ordered_json& json) {
  const identity::BioPtr memory(BIO_new(BIO_s_mem()));
  PEM_write_bio_PUBKEY(memory.get(), &member.key());
  char* pem = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &pem);
  const std::string part = unsigned_part(json, R"({"alg":"HS256","typ":"JWT"})");
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  HMAC(EVP_sha256(), pem, static_cast<int>(size), reinterpret_cast<const unsigned char*>(part.data()), part.size(),
       digest, &length);
  return part + '.' + identity::base64url_encode({reinterpret_cast<char*>(digest), length});
}

// RS256 with the member's RSA key.
std::string signed_with_rsa(const Member& member, const ordered_json& json) {
  const std::string part = unsigned_part(json, R"({"alg":"RS256","typ":"JWT"})");
  const identity::DigestPtr context(EVP_MD_CTX_new());
  std::string signature(512, '\0');
  std::size_t length = signature.size();
  EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, &member.key());
  EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &length,
                 reinterpret_cast<const unsigned char*>(part.data()), part.size());
  signature.resize(length);
  return part + '.' + identity::base64url_encode(signature);
}

// Another letter at a place of one of the three parts.
std::string changed(std::string token, int part) {
  std::size_t at = 0;
  for (int i = 0; i < part; ++i) at = token.find('.', at) + 1;
  token[at + 5] = token[at + 5] == 'A' ? 'B' : 'A';
  return token;
}

// Paths, made by hand.

mesh::PathSegment segment(const std::string& name, const std::string& id, const std::string& token = {}) {
  mesh::PathSegment made;
  made.set_name(name);
  made.set_id(id);
  if (!token.empty()) made.set_token(token);
  return made;
}

void set_path(Connection& connection, std::initializer_list<mesh::PathSegment> segments, std::uint32_t index) {
  auto& path = *connection.mutable_path();
  path.clear_path_segments();
  for (const auto& one : segments) *path.add_path_segments() = one;
  path.set_index(index);
  connection.set_id(path.path_segments(static_cast<int>(index)).id());
}

struct Asking {
  Call call;
  NetworkServiceRequest request;

  Connection& connection() { return *request.mutable_connection(); }
  mesh::PathSegment& hop(int at) { return *connection().mutable_path()->mutable_path_segments(at); }
};

// What the forwarder asks of the endpoint, at the end of a path of three.
Asking at_endpoint(GuardedMesh& mesh, const std::string& id) {
  Asking asking;
  asking.call = {&mesh.forwarder_,
                 mesh.endpoint_socket->url(),
                 mesh::method::kRequest,
                 mesh.forwarder_.token_for(mesh.endpoint),
                 {},
                 {}};
  asking.request.add_mechanism_preferences()->set_type(std::string(mesh::kKernel));
  asking.connection().set_network_service("shop");
  set_path(asking.connection(),
           {segment("client", "client-" + id, mesh.client.token_for(mesh.manager)),
            segment("manager", "manager-" + id, mesh.manager.token_for(mesh.forwarder_)),
            segment("forwarder", "forwarder-" + id)},
           2);
  return asking;
}

// What a client asks of its manager, bringing its namespace.
Asking at_manager(GuardedMesh& mesh, Member& from, const std::string& id) {
  Asking asking;
  const auto netns = mesh.world.new_file(fakes::kNamespaceDevice);
  asking.call = {&from, kManager, mesh::method::kRequest, from.token_for(mesh.manager), {}, {netns}};
  auto& mechanism = *asking.request.add_mechanism_preferences();
  mechanism.set_cls(std::string(mesh::kLocal));
  mechanism.set_type(std::string(mesh::kKernel));
  (*mechanism.mutable_parameters())[mesh::parameter::kInodeUrl] = netns.url();
  asking.connection().set_network_service("shop");
  asking.connection().mutable_context();
  set_path(asking.connection(), {segment(from.name, id)}, 0);
  return asking;
}

// What a manager registers at the registry for an endpoint of its node.
struct Registering {
  Call call;
  NetworkServiceEndpoint endpoint;
  ordered_json path;

  void refresh_path() {
    call.metadata.erase("path");
    call.metadata.emplace("path", path.dump());
  }
};

Registering at_registry(GuardedMesh& mesh, const std::string& name) {
  Registering made;
  made.call = {&mesh.manager, kRegistry, mesh::Endpoints::kRegister, mesh.manager.token_for(mesh.registry), {}, {}};
  made.endpoint.set_name(name);
  made.endpoint.add_network_service_names("shop");
  made.endpoint.set_url("tcp://10.0.0.9:5001");
  made.path["Index"] = 1;
  made.path["PathSegments"] = ordered_json::array(
      {{{"token", mesh.endpoint.token_for(mesh.manager)}}, {{"token", mesh.manager.token_for(mesh.registry)}}});
  made.refresh_path();
  return made;
}

// What a workload registers at its manager.
Registering at_manager_registry(GuardedMesh& mesh, Member& from, const std::string& name) {
  Registering made;
  made.call = {&from, kManager, mesh::Endpoints::kRegister, from.token_for(mesh.manager), {}, {}};
  made.endpoint.set_name(name);
  made.endpoint.add_network_service_names("shop");
  made.endpoint.set_url("tcp://10.0.0.9:5001");
  return made;
}

Result<void> send(GuardedMesh& mesh, Asking asking) {
  return outcome(mesh.send<Connection>(asking.call, asking.request));
}
Result<void> send(GuardedMesh& mesh, Registering made) {
  return outcome(mesh.send<NetworkServiceEndpoint>(made.call, made.endpoint));
}
Result<void> close(GuardedMesh& mesh, Asking asking) {
  asking.call.method = mesh::method::kClose;
  return outcome(mesh.send<Empty>(asking.call, asking.connection()));
}

struct Attack {
  const char* name;
  const char* does;
  Code expected;
  const char* because;  // what the log gives as the reason; empty: the code is enough
  std::function<Result<void>(GuardedMesh&)> run;
};

// The families: the honest call, then the same one changed.

Attack token(const char* name, const char* does, const char* because, std::function<void(GuardedMesh&, Asking&)> change,
             Code expected = Code::permission_denied) {
  return {name, does, expected, because, [change](GuardedMesh& mesh) {
            expect_accepted(send(mesh, at_endpoint(mesh, "honest")));
            Asking attack = at_endpoint(mesh, "attack");
            change(mesh, attack);
            return send(mesh, std::move(attack));
          }};
}

// On the connection of a client that is connected, which must be as it was afterwards.
Attack theft(const char* name, const char* does,
             std::function<Result<void>(GuardedMesh&, const Connection& victims)> attack,
             Code expected = Code::permission_denied) {
  return {name, does, expected, expected == Code::permission_denied ? "the connection " : "",
          [attack](GuardedMesh& mesh) {
            const Connection victims = mesh.connect();
            EXPECT_TRUE(mesh.connected());
            auto refused = attack(mesh, victims);
            EXPECT_TRUE(mesh.connected()) << "the victim lost its connection";
            mesh.world.finish(mesh.client_chain->close_all(5s));
            mesh.world.scheduler.run_ready();
            EXPECT_FALSE(mesh.connected()) << "the owner itself cannot close";
            return refused;
          }};
}

Attack header(const char* name, const char* does, std::function<void(GuardedMesh&, Registering&)> change,
              Code expected = Code::invalid_argument) {
  return {name, does, expected, "", [change](GuardedMesh& mesh) {
            expect_accepted(send(mesh, at_registry(mesh, "honest")));
            Registering attack = at_registry(mesh, "attack");
            change(mesh, attack);
            return send(mesh, std::move(attack));
          }};
}
Attack raw_header(const char* name, const char* does, std::string text, Code expected = Code::invalid_argument) {
  return header(
      name, does,
      [text](GuardedMesh&, Registering& attack) {
        attack.call.metadata.erase("path");
        attack.call.metadata.emplace("path", text);
      },
      expected);
}

rpc::Descriptor real_namespace() { return rpc::Descriptor::open("/proc/self/ns/net").value(); }

Attack file(const char* name, const char* does, const char* because, std::function<void(GuardedMesh&, Asking&)> change,
            Code expected = Code::unknown) {
  return {name, does, expected, because, [change](GuardedMesh& mesh) {
            const auto bring = [](Asking& asking, const rpc::Descriptor& named) {
              asking.call.files = {named};
              (*asking.request.mutable_mechanism_preferences(0)->mutable_parameters())[mesh::parameter::kInodeUrl] =
                  named.url();
            };
            Asking honest = at_manager(mesh, mesh.intruder, "honest");
            bring(honest, real_namespace());
            expect_accepted(send(mesh, std::move(honest)));
            Asking attack = at_manager(mesh, mesh.intruder, "attack");
            bring(attack, real_namespace());
            change(mesh, attack);
            return send(mesh, std::move(attack));
          }};
}
void bring_instead(Asking& attack, const rpc::Descriptor& wrong) {
  attack.call.files = {wrong};
  (*attack.request.mutable_mechanism_preferences(0)->mutable_parameters())[mesh::parameter::kInodeUrl] = wrong.url();
}

Attack policy_server(const char* name, const char* does, Result<bool> answer) {
  return {name, does, Code::permission_denied, answer ? "the policy server says no" : "refused ",
          [answer](GuardedMesh& mesh) {
            expect_accepted(send(mesh, at_endpoint(mesh, "honest")));
            EXPECT_FALSE(mesh.opa.inputs.empty());
            mesh.opa.answer = answer;
            return send(mesh, at_endpoint(mesh, "attack"));
          }};
}

// Someone who stands where a manager should, and answers a client.
Attack answer(const char* name, const char* does,
              std::function<void(GuardedMesh&, Member& liar, Connection& answer)> lie) {
  return {name, does, Code::permission_denied, "refused the answer", [lie](GuardedMesh& mesh) {
            Member& liar = mesh.intruder;
            bool lying = false;
            std::size_t closes = 0;
            rpc::Services services;
            services[mesh::method::kRequest] = rpc::unary_handler<NetworkServiceRequest, Connection>(
                [&](rpc::ServerCall& call, NetworkServiceRequest request) -> base::Task<Result<Connection>> {
                  Connection answered = request.connection();
                  auto& path = *answered.mutable_path();
                  const auto token = mesh::token_of(call.metadata);
                  path.mutable_path_segments(0)->set_token(token->text);
                  mesh::set_time(path.mutable_path_segments(0)->mutable_expires(), token->expires);
                  if (path.path_segments_size() < 2) {
                    *path.add_path_segments() = segment("liar", "liar-" + answered.id());
                  }
                  path.mutable_path_segments(1)->set_token(liar.token_for(mesh.client));
                  mesh::set_time(path.mutable_path_segments(1)->mutable_expires(), token->expires);
                  *answered.mutable_mechanism() = request.mechanism_preferences(0);
                  if (lying) lie(mesh, liar, answered);
                  co_return answered;
                });
            services[mesh::method::kClose] =
                rpc::unary_handler<Connection, Empty>([&](rpc::ServerCall&, Connection) -> base::Task<Result<Empty>> {
                  ++closes;
                  co_return Empty();
                });
            const auto listener = liar.transport->listen("unix:///liar.sock", services).value();
            fakes::FakeLiveness liveness(mesh.world.scheduler);
            mesh::Client client(mesh::ClientParts{mesh.world.scheduler,
                                                  mesh.world.random,
                                                  *mesh.client.transport,
                                                  liveness,
                                                  mesh.client.name,
                                                  "unix:///liar.sock",
                                                  mesh.world.new_file(fakes::kNamespaceDevice),
                                                  {},
                                                  {},
                                                  {},
                                                  {},
                                                  mesh.authorization(mesh.client)});
            mesh::NetworkServiceUrl url;
            url.mechanism = std::string(mesh::kKernel);
            url.service = "shop";
            expect_accepted(*mesh.world.scheduler.run(client.connect(url, 0, 15s, {})));
            lying = true;
            auto refused = outcome(*mesh.world.scheduler.run(client.connect(url, 1, 15s, {})));
            EXPECT_EQ(closes, 1U) << "what was refused must be given back";
            mesh.world.finish(client.finish());
            mesh.world.finish(listener->finish());
            return refused;
          }};
}

std::vector<Attack> all() {
  std::vector<Attack> rows;
  const auto add = [&rows](Attack attack) { rows.push_back(std::move(attack)); };

  // Tokens of the caller.
  add(token("Missing", "sends no token", "tokens_valid", [](GuardedMesh&, Asking& a) { a.call.token.clear(); }));
  add(token("Two", "sends two, one of them good", "tokens_valid", [](GuardedMesh& mesh, Asking& a) {
    a.call.metadata.emplace(kTokenKey, mesh.intruder.token_for(mesh.endpoint));
  }));
  add(token("NoJwt", "sends text", "tokens_valid", [](GuardedMesh&, Asking& a) { a.call.token = "let me in"; }));
  add(token("Oversized", "sends 20 KiB", "tokens_valid", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
    json["x"] = std::string(20 << 10, 'x');
    a.call.token = signed_by(mesh.forwarder_, json);
  }));
  add(token("Expired", "uses a token of a minute ago", "tokens_expired: segment 2 (forwarder): its token has expired",
            [](GuardedMesh& mesh, Asking& a) {
              auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
              json["exp"] = seconds(mesh.world, -1min);
              a.call.token = signed_by(mesh.forwarder_, json);
            }));
  add(token("NotYetValid", "uses a token of tomorrow", "not valid yet", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
    json["nbf"] = seconds(mesh.world, 1h);
    a.call.token = signed_by(mesh.forwarder_, json);
  }));
  const std::pair<const char*, ordered_json> expiries[] = {
      {"ExpText", "4000000000"},     {"ExpNegative", -1},  {"ExpHuge", 1e300},
      {"ExpHugeInteger", INT64_MAX}, {"ExpNull", nullptr}, {"ExpList", ordered_json::array({4000000000})}};
  for (const auto& [name, value] : expiries) {
    add(token(name, "makes exp what no clock says", "refused ", [value](GuardedMesh& mesh, Asking& a) {
      auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
      json["exp"] = value;
      a.call.token = signed_by(mesh.forwarder_, json);
    }));
  }
  add(token("ExpMissing", "leaves exp out", "does not say when", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
    json.erase("exp");
    a.call.token = signed_by(mesh.forwarder_, json);
  }));
  add(token("SubEmpty", "is nobody", "no subject", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
    json["sub"] = "";
    a.call.token = signed_by(mesh.forwarder_, json);
    a.hop(1).set_token(signed_by(
        mesh.manager,
        {{"aud", ordered_json::array({""})}, {"exp", seconds(mesh.world, 1min)}, {"sub", mesh.manager.id()}}));
  }));
  add(token("AnothersName", "signs with its own key in the client's name",
            "spiffe://mesh.test/intruder signed a token in the name of spiffe://mesh.test/forwarder",
            [](GuardedMesh& mesh, Asking& a) {
              a.call.from = &mesh.intruder;
              a.call.token = signed_by(mesh.intruder, claims(mesh, mesh.forwarder_, mesh.endpoint));
            }));
  add(token("AnothersKey", "has its token signed by somebody else", "another key signed it",
            [](GuardedMesh& mesh, Asking& a) {
              a.call.token = signed_by(mesh.intruder, claims(mesh, mesh.forwarder_, mesh.endpoint));
            }));
  add(token("Replayed", "sends another's token over its own connection", "another key signed it",
            [](GuardedMesh& mesh, Asking& a) { a.call.from = &mesh.intruder; }));
  add(token("ReplayedElsewhere", "sends a token that was made for the registry",
            "was not made for spiffe://mesh.test/endpoint", [](GuardedMesh& mesh, Asking& a) {
              // The policy looks along the chain: the audience of the caller's token has to name the receiver.
              a.call.token = mesh.forwarder_.token_for(mesh.registry);
            }));
  add(token("TamperedHeader", "changes a letter of the header", "tokens_valid",
            [](GuardedMesh&, Asking& a) { a.call.token = changed(a.call.token, 0); }));
  add(token("TamperedClaims", "lets its token live longer than it was signed for", "another key signed it, or it was",
            [](GuardedMesh& mesh, Asking& a) {
              auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
              json["exp"] = seconds(mesh.world, 24h);
              a.call.token = unsigned_part(json, kEs256) + a.call.token.substr(a.call.token.rfind('.'));
            }));
  add(token("TamperedSignature", "changes a letter of the signature", "another key signed it, or it was",
            [](GuardedMesh&, Asking& a) { a.call.token = changed(a.call.token, 2); }));
  add(token("SignatureCut", "leaves the signature out", "prev_token_signed",
            [](GuardedMesh&, Asking& a) { a.call.token = a.call.token.substr(0, a.call.token.rfind('.') + 1); }));
  add(token("SignatureZero", "signs with zeros", "prev_token_signed", [](GuardedMesh&, Asking& a) {
    a.call.token =
        a.call.token.substr(0, a.call.token.rfind('.') + 1) + identity::base64url_encode(std::string(64, '\0'));
  }));
  add(token("AlgNone", "says alg none", "algorithm is not ES256", [](GuardedMesh& mesh, Asking& a) {
    a.call.token = unsigned_part(claims(mesh, mesh.forwarder_, mesh.endpoint), R"({"alg":"none","typ":"JWT"})") + '.';
  }));
  add(token("AlgHs256", "signs by HS256 with the public key as secret", "algorithm is not ES256",
            [](GuardedMesh& mesh, Asking& a) {
              a.call.token = signed_with_public_key(mesh.forwarder_, claims(mesh, mesh.forwarder_, mesh.endpoint));
            }));
  add(token("AlgRs256", "calls an ES256 signature RS256", "algorithm is not ES256", [](GuardedMesh& mesh, Asking& a) {
    a.call.token =
        signed_by(mesh.forwarder_, claims(mesh, mesh.forwarder_, mesh.endpoint), R"({"alg":"RS256","typ":"JWT"})");
  }));
  add(token("RsaKey", "has a certificate with an RSA key and signs by RS256", "algorithm is not ES256",
            [](GuardedMesh& mesh, Asking& a) {
              static std::unique_ptr<Member> rsa;  // outlives the call
              rsa = std::make_unique<Member>(mesh.world, "forwarder", good_leaf(identity::testing::KeyKind::rsa2048));
              a.call.from = rsa.get();
              a.call.token = signed_with_rsa(*rsa, claims(mesh, *rsa, mesh.endpoint));
            }));
  add(token("CritHeader", "demands an extension of the header", "tokens_valid", [](GuardedMesh& mesh, Asking& a) {
    a.call.token = signed_by(mesh.forwarder_, claims(mesh, mesh.forwarder_, mesh.endpoint),
                             R"({"alg":"ES256","crit":["b64"],"b64":false})");
  }));
  add(token("NoCertificate", "comes without TLS", "no certificate", [](GuardedMesh& mesh, Asking& a) {
    static std::unique_ptr<Member> nobody;
    nobody = std::make_unique<Member>(mesh.world, "forwarder");
    nobody->bare = mesh.world.network.process();
    a.call.from = nobody.get();
  }));

  // Tokens of hops before the caller, and the path.
  add(token("EarlierExpired", "has the client's token expire", "segment 0 (client): its token has expired",
            [](GuardedMesh& mesh, Asking& a) {
              auto json = claims(mesh, mesh.client, mesh.manager);
              json["exp"] = seconds(mesh.world, -1s);
              a.hop(0).set_token(signed_by(mesh.client, json));
            }));
  add(token("EarlierMissing", "leaves the client's token out", "tokens_valid: segment 0 (client)",
            [](GuardedMesh&, Asking& a) { a.hop(0).clear_token(); }));
  add(token("AudText", "makes aud a text", "aud is not a list", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.client, mesh.manager);
    json["aud"] = mesh.manager.id();
    a.hop(0).set_token(signed_by(mesh.client, json));
  }));
  add(token("AudMissing", "leaves aud out", "aud is not a list", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.client, mesh.manager);
    json.erase("aud");
    a.hop(0).set_token(signed_by(mesh.client, json));
  }));
  add(token("AudMixed", "mixes numbers into aud", "tokens_valid", [](GuardedMesh& mesh, Asking& a) {
    auto json = claims(mesh, mesh.client, mesh.manager);
    json["aud"] = ordered_json::array({mesh.manager.id(), 7});
    a.hop(0).set_token(signed_by(mesh.client, json));
  }));
  add(token("Unchained", "brings a client's token made for somebody else",
            "was not made for spiffe://mesh.test/manager",
            [](GuardedMesh& mesh, Asking& a) { a.hop(0).set_token(mesh.client.token_for(mesh.intruder)); }));
  add(token("OtherSegments", "puts the manager's token where the client's should be", "tokens_chained",
            [](GuardedMesh& mesh, Asking& a) { a.hop(0).set_token(mesh.manager.token_for(mesh.forwarder_)); }));
  add(token("Swapped", "swaps the tokens of two hops", "tokens_chained",
            [](GuardedMesh&, Asking& a) { std::swap(*a.hop(0).mutable_token(), *a.hop(1).mutable_token()); }));
  add(token("StolenChain", "joins a path it saw, as the next hop", "tokens_chained", [](GuardedMesh& mesh, Asking& a) {
    a.call.from = &mesh.intruder;
    a.call.token = mesh.intruder.token_for(mesh.endpoint);
  }));
  add(token(
      "IndexBeyond", "points behind the path's end", "",
      [](GuardedMesh&, Asking& a) { a.connection().mutable_path()->set_index(3); }, Code::invalid_argument));
  add(token(
      "IndexNegative", "has index -1, as unsigned", "",
      [](GuardedMesh&, Asking& a) { a.connection().mutable_path()->set_index(UINT32_MAX); }, Code::invalid_argument));
  add(token("IndexEarlier", "points at the client's segment, so that its token counts", "tokens_chained",
            [](GuardedMesh&, Asking& a) {
              a.connection().mutable_path()->set_index(0);
              a.call.token.clear();
              a.connection().set_id(a.hop(0).id());
            }));
  add(token(
      "IdOfAnotherHop", "calls the connection by the id of another hop", "",
      [](GuardedMesh&, Asking& a) { a.connection().set_id(a.hop(0).id()); }, Code::invalid_argument));
  add(token("PathEmpty", "sends no path", "the caller has no segment",
            [](GuardedMesh&, Asking& a) { a.connection().clear_path(); }));
  add(token("PathIsOurs", "says that it is the endpoint", "the caller has no segment",
            [](GuardedMesh& mesh, Asking& a) {
              set_path(a.connection(), {segment("endpoint", "1", mesh.endpoint.token_for(mesh.endpoint))}, 0);
            }));
  add(token(
      "PathLoops", "sends 65 segments", "",
      [](GuardedMesh&, Asking& a) {
        while (a.connection().path().path_segments_size() < 65) {
          *a.connection().mutable_path()->add_path_segments() = segment("x", "x");
        }
      },
      Code::invalid_argument));

  // Connections of others.
  add(theft("CloseAtManager", "closes another's connection by its id",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking a = at_manager(mesh, mesh.intruder, "intruder-0");
              set_path(a.connection(), {segment("intruder", "intruder-0"), victims.path().path_segments(1)}, 0);
              return close(mesh, std::move(a));
            }));
  add(theft("CloseByCopy", "closes with a copy of the whole path", [](GuardedMesh& mesh, const Connection& victims) {
    Asking a = at_manager(mesh, mesh.intruder, "x");
    a.connection() = victims;
    return close(mesh, std::move(a));
  }));
  add(theft("RequestAtManager", "requests another's connection", [](GuardedMesh& mesh, const Connection& victims) {
    Asking a = at_manager(mesh, mesh.intruder, "intruder-0");
    set_path(a.connection(), {segment("intruder", "intruder-0"), victims.path().path_segments(1)}, 0);
    return send(mesh, std::move(a));
  }));
  add(theft("RequestByCopy", "requests with a copy of the whole path",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking a = at_manager(mesh, mesh.intruder, "x");
              a.connection() = victims;
              return send(mesh, std::move(a));
            }));
  add(theft("ReselectAtManager", "has another's connection selected anew, which closes it",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking a = at_manager(mesh, mesh.intruder, "x");
              a.connection() = victims;
              a.connection().set_state(connection::RESELECT_REQUESTED);
              return send(mesh, std::move(a));
            }));
  add(theft("CloseBelow", "goes around the manager and closes at the forwarder",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking a = at_manager(mesh, mesh.intruder, "x");
              a.call.url = mesh.forwarder_socket->url();
              a.call.token = mesh.intruder.token_for(mesh.forwarder_);
              set_path(
                  a.connection(),
                  {segment("client", victims.id(), signed_by(mesh.intruder, claims(mesh, mesh.client, mesh.intruder))),
                   segment("intruder", "x"), victims.path().path_segments(2)},
                  1);
              return close(mesh, std::move(a));
            }));
  add(theft("RequestBelow", "goes around the manager and requests at the forwarder in its own name",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking a = at_manager(mesh, mesh.intruder, "x");
              a.call.url = mesh.forwarder_socket->url();
              a.call.token = mesh.intruder.token_for(mesh.forwarder_);
              set_path(a.connection(), {segment("intruder", "x"), victims.path().path_segments(2)}, 0);
              return send(mesh, std::move(a));
            }));
  add(theft("CloseThroughManager", "closes a connection of its own whose path leads on into another's",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking own = at_manager(mesh, mesh.intruder, "intruder-0");
              auto mine = mesh.send<Connection>(own.call, own.request);
              expect_accepted(mine);
              own.connection() = *mine;
              *own.hop(2).mutable_id() = victims.path().path_segments(2).id();
              auto refused = close(mesh, own);
              // Its own is gone here, and hangs below until it expires: to be cleaned up for the checks that follow.
              own.call = {&mesh.manager,
                          mesh.forwarder_socket->url(),
                          mesh::method::kClose,
                          mesh.manager.token_for(mesh.forwarder_),
                          {},
                          {}};
              own.connection() = *mine;
              own.hop(0).set_token(mesh.intruder.token_for(mesh.manager));
              own.connection().mutable_path()->set_index(1);
              own.connection().set_id(own.hop(1).id());
              expect_accepted(close(mesh, own));
              return refused;
            }));
  add(theft(
      "RequestThroughManager", "requests with a path that leads on into another's",
      [](GuardedMesh& mesh, const Connection& victims) {
        Asking a = at_manager(mesh, mesh.intruder, "intruder-0");
        set_path(a.connection(),
                 {segment("intruder", "intruder-0"), segment("manager", "made-up"), victims.path().path_segments(2)},
                 0);
        return send(mesh, std::move(a));
      },
      Code::unknown));  // the manager says in NSM's way that no forwarder took it
  add(theft("TruncatedPath", "requests at the endpoint with the path's beginning cut off",
            [](GuardedMesh& mesh, const Connection& victims) {
              Asking a = at_endpoint(mesh, "x");
              a.call.from = &mesh.forwarder_;
              set_path(
                  a.connection(),
                  {segment("manager", victims.path().path_segments(1).id(), mesh.manager.token_for(mesh.forwarder_)),
                   victims.path().path_segments(2), victims.path().path_segments(3)},
                  1);
              return send(mesh, std::move(a));
            }));

  // Names of others.
  const auto taken = [](GuardedMesh& mesh) {
    expect_accepted(send(mesh, at_manager_registry(mesh, mesh.client, "n")));
  };
  add({"RegisterAnothers", "registers a name that is another's", Code::permission_denied, "client_allowed",
       [taken](GuardedMesh& mesh) {
         taken(mesh);
         taken(mesh);  // a refresh by its owner
         return send(mesh, at_manager_registry(mesh, mesh.intruder, "n"));
       }});
  add({"UnregisterAnothers", "unregisters another's endpoint", Code::permission_denied, "client_allowed",
       [taken](GuardedMesh& mesh) {
         taken(mesh);
         Registering attack = at_manager_registry(mesh, mesh.intruder, "n");
         attack.call.method = mesh::Endpoints::kUnregister;
         auto refused = outcome(mesh.send<Empty>(attack.call, attack.endpoint));
         Registering own = at_manager_registry(mesh, mesh.client, "n");
         own.call.method = mesh::Endpoints::kUnregister;
         expect_accepted(mesh.send<Empty>(own.call, own.endpoint));
         return refused;
       }});
  add({"RegisterWithFalseIds", "brings the owner's path_ids along", Code::permission_denied, "client_allowed",
       [taken](GuardedMesh& mesh) {
         taken(mesh);
         Registering attack = at_manager_registry(mesh, mesh.intruder, "n");
         attack.endpoint.add_path_ids(mesh.client.id());
         return send(mesh, std::move(attack));
       }});
  add({"RegisterAnothersService", "registers a network service that is another's", Code::permission_denied,
       "client_allowed", [](GuardedMesh& mesh) {
         Call call{&mesh.client, kManager, mesh::Services::kRegister, mesh.client.token_for(mesh.manager), {}, {}};
         mesh::NetworkService service;
         service.set_name("bank");
         expect_accepted(mesh.send<mesh::NetworkService>(call, service));
         call.from = &mesh.intruder;
         call.token = mesh.intruder.token_for(mesh.manager);
         return outcome(mesh.send<mesh::NetworkService>(call, service));
       }});
  add({"RegisterAfterExpiry", "waits until the owner's registration has expired", Code::permission_denied,
       "client_allowed", [taken](GuardedMesh& mesh) {
         taken(mesh);
         mesh.world.scheduler.run_for(2min);
         return send(mesh, at_manager_registry(mesh, mesh.intruder, "n"));
       }});
  add({"RegisterAfterRestart", "waits until the registry is restarted", Code::permission_denied, "client_allowed",
       [](GuardedMesh& mesh) {
         const auto registering = [&](Member& owner) {
           Registering made = at_registry(mesh, "n");
           made.path["PathSegments"][0]["token"] = owner.token_for(mesh.manager);
           made.refresh_path();
           return made;
         };
         expect_accepted(send(mesh, registering(mesh.endpoint)));
         mesh.restart_registry();
         expect_accepted(send(mesh, registering(mesh.endpoint)));
         return send(mesh, registering(mesh.intruder));
       }});
  add({"RegisterFirstTwice", "registers at the same time as the owner", Code::permission_denied, "client_allowed",
       [](GuardedMesh& mesh) {
         // Both are under way before either is answered.
         Registering honest = at_manager_registry(mesh, mesh.client, "n");
         Registering attack = at_manager_registry(mesh, mesh.intruder, "n");
         const auto start = [&](Registering& made) {
           auto channel = made.call.from->bare->channel(made.call.url);
           rpc::CallOptions options;
           options.deadline = mesh.world.scheduler.now() + 15s;
           options.metadata = {{kTokenKey, made.call.token},
                               {kExpiresKey, mesh::format_time(mesh.world.scheduler.wall_now() + 10min)}};
           return rpc::unary<NetworkServiceEndpoint>(*channel, made.call.method, made.endpoint, std::move(options));
         };
         struct Both {
           static base::Task<void> wait(base::Task<Result<rpc::TypedReply<NetworkServiceEndpoint>>> task,
                                        std::optional<Result<void>>* into) {
             auto reply = co_await task;
             *into = outcome(reply);
           }
         };
         std::optional<Result<void>> first;
         std::optional<Result<void>> second;
         base::spawn_detached(Both::wait(start(honest), &first));
         base::spawn_detached(Both::wait(start(attack), &second));
         mesh.world.scheduler.run_until_true([&] { return first && second; });
         expect_accepted(*first);
         return *second;
       }});

  // The path header.
  add(raw_header("HeaderNoJson", "sends a header that is no JSON", "Index=0"));
  add(raw_header("HeaderEmpty", "sends an empty header", ""));
  add(raw_header("HeaderNull", "sends null", "null"));
  add(raw_header("HeaderList", "sends a list", "[]"));
  add(raw_header("HeaderCut", "cuts the JSON off", R"({"Index":0,"PathSegments":[{"token")"));
  add(raw_header("HeaderIndexText", "makes the index a text", R"({"Index":"1","PathSegments":[{"token":"a"}]})"));
  add(raw_header("HeaderIndexNegative", "makes the index negative", R"({"Index":-1,"PathSegments":[{"token":"a"}]})"));
  add(raw_header("HeaderIndexFraction", "makes the index a fraction", R"({"Index":0.5,"PathSegments":null})"));
  add(raw_header("HeaderIndexHuge", "makes the index huge", R"({"Index":4294967296,"PathSegments":[{"token":"a"}]})"));
  add(raw_header("HeaderIndexBeyond", "points behind the end", R"({"Index":1,"PathSegments":[{"token":"a"}]})"));
  add(raw_header("HeaderIndexTwice", "says the index twice",
                 R"({"Index":0,"Index":9,"PathSegments":[{"token":"a"}]})"));
  add(raw_header("HeaderSegmentsText", "makes the segments a text", R"({"Index":0,"PathSegments":"a"})"));
  add(raw_header("HeaderTokenNumber", "makes a token a number", R"({"Index":0,"PathSegments":[{"token":7}]})"));
  add(header("HeaderLong", "sends 10,000 segments", [](GuardedMesh&, Registering& attack) {
    attack.path["PathSegments"] = ordered_json::array();
    for (int i = 0; i < 10'000; ++i) attack.path["PathSegments"].push_back({{"token", "x"}});
    attack.refresh_path();
  }));
  add(header(
      "HeaderSegmentNull", "makes the first segment null",
      [](GuardedMesh&, Registering& attack) {
        attack.path["PathSegments"][0] = nullptr;
        attack.refresh_path();
      },
      Code::permission_denied));
  add(header(
      "RegistrationUnchained", "brings an endpoint's token that was made for another manager",
      [](GuardedMesh& mesh, Registering& attack) {
        attack.path["PathSegments"][0]["token"] = mesh.endpoint.token_for(mesh.intruder);
        attack.refresh_path();
      },
      Code::permission_denied));
  add(header(
      "RegistrationStolen", "presents a registration that it saw",
      [](GuardedMesh& mesh, Registering& attack) { attack.call.from = &mesh.intruder; }, Code::permission_denied));
  add(header(
      "RegistrationWithoutToken", "sends no token, but a path that has one",
      [](GuardedMesh& mesh, Registering& attack) {
        attack.call.token.clear();
        attack.path["PathSegments"][1]["token"] = "";
        attack.refresh_path();
        static_cast<void>(mesh);
      },
      Code::permission_denied));
  add(header(
      "RegistrationWithoutName", "registers nothing",
      [](GuardedMesh&, Registering& attack) { attack.endpoint.clear_name(); }, Code::invalid_argument));

  // Files.
  add(file(
      "AnothersNamespace", "names the inode of another pod's namespace", "did not come over this connection",
      [](GuardedMesh&, Asking& a) {
        (*a.request.mutable_mechanism_preferences(0)->mutable_parameters())[mesh::parameter::kInodeUrl] =
            "inode://4/4026531840";
      },
      Code::deadline_exceeded));
  add(file(
      "AnothersNamespaceHeld", "names the namespace that the node holds for another connection",
      "did not come over this connection",
      [](GuardedMesh& mesh, Asking& a) {
        const auto victims = mesh.connect();
        (*a.request.mutable_mechanism_preferences(0)->mutable_parameters())[mesh::parameter::kInodeUrl] =
            mesh::mechanism_parameter(victims.mechanism(), mesh::parameter::kInodeUrl);
      },
      Code::deadline_exceeded));
  add(file("RegularFile", "passes a regular file as its namespace", "is no namespace",
           [](GuardedMesh&, Asking& a) { bring_instead(a, rpc::Descriptor::open("/proc/self/exe").value()); }));
  add(file("Device", "passes a device as its namespace", "is no namespace",
           [](GuardedMesh&, Asking& a) { bring_instead(a, rpc::Descriptor::open("/dev/zero").value()); }));
  add(file("UserNamespace", "passes a user namespace as its network namespace", "is a namespace of another kind",
           [](GuardedMesh&, Asking& a) { bring_instead(a, rpc::Descriptor::open("/proc/self/ns/user").value()); }));
  add(file("NamespaceByPath", "names a namespace of the node by its path", "a path means nothing here",
           [](GuardedMesh&, Asking& a) {
             (*a.request.mutable_mechanism_preferences(0)->mutable_parameters())[mesh::parameter::kInodeUrl] =
                 "file:///proc/1/ns/net";
           }));
  add({"NoSocket", "registers an endpoint whose socket is a regular file", Code::invalid_argument, "",
       [](GuardedMesh& mesh) {
         const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
         const auto registering = [&](const char* name, const rpc::Descriptor& socket) {
           Registering made = at_manager_registry(mesh, mesh.client, name);
           made.call.files = {socket};
           made.endpoint.set_url(socket.url());
           return made;
         };
         expect_accepted(send(mesh, registering("n", rpc::Descriptor::adopt(base::UniqueFd(fd)).value())));
         return send(mesh, registering("m", rpc::Descriptor::open("/proc/self/exe").value()));
       }});

  // The policy server.
  add(policy_server("OpaSaysNo", "is not allowed by the policy server", false));
  add(policy_server("OpaDown", "stops the policy server", base::fail(Code::unavailable, "connection refused")));
  add(policy_server("OpaSlow", "keeps the policy server busy", base::fail(Code::deadline_exceeded, "too slow")));
  add(policy_server("OpaLies", "has the policy server answer without yes or no",
                    base::fail(Code::failed_precondition, "no result that is true or false")));

  // Clocks.
  add({"ClockForward", "uses an old token after the clock jumped an hour ahead", Code::permission_denied, "has expired",
       [](GuardedMesh& mesh) {
         Asking old = at_endpoint(mesh, "old");
         expect_accepted(send(mesh, old));
         mesh.world.scheduler.step_wall_clock(1h);
         expect_accepted(send(mesh, at_endpoint(mesh, "new")));
         return send(mesh, std::move(old));
       }});
  add({"ClockBack", "uses a token that is not valid any more now that the clock is an hour back",
       Code::permission_denied, "not valid yet", [](GuardedMesh& mesh) {
         auto json = claims(mesh, mesh.forwarder_, mesh.endpoint);
         json["exp"] = seconds(mesh.world, 10min);
         json["nbf"] = seconds(mesh.world, -1min);
         Asking asking = at_endpoint(mesh, "x");
         asking.call.token = signed_by(mesh.forwarder_, json);
         expect_accepted(send(mesh, asking));
         mesh.world.scheduler.step_wall_clock(-1h);
         expect_accepted(send(mesh, at_endpoint(mesh, "new")));
         return send(mesh, std::move(asking));
       }});

  // Answers.
  add(answer("AnswerWithoutProof", "answers without a token of its own",
             [](GuardedMesh&, Member&, Connection& answered) {
               answered.mutable_path()->mutable_path_segments(1)->clear_token();
             }));
  add(answer("AnswerCut", "answers without a segment of its own", [](GuardedMesh&, Member&, Connection& answered) {
    answered.mutable_path()->mutable_path_segments()->RemoveLast();
  }));
  add(answer("AnswerInAnothersName", "answers in the manager's name",
             [](GuardedMesh& mesh, Member& liar, Connection& answered) {
               answered.mutable_path()->mutable_path_segments(1)->set_token(
                   signed_by(liar, claims(mesh, mesh.manager, mesh.client)));
             }));
  add(answer("AnswerReplayed", "answers with a token of the manager's",
             [](GuardedMesh& mesh, Member&, Connection& answered) {
               answered.mutable_path()->mutable_path_segments(1)->set_token(mesh.manager.token_for(mesh.client));
             }));
  add(answer("AnswerExpired", "answers with a token that has expired",
             [](GuardedMesh& mesh, Member& liar, Connection& answered) {
               auto json = claims(mesh, liar, mesh.client);
               json["exp"] = seconds(mesh.world, -1min);
               answered.mutable_path()->mutable_path_segments(1)->set_token(signed_by(liar, json));
             }));
  add(answer("AnswerUnchained", "names a hop that nobody made a token for",
             [](GuardedMesh& mesh, Member&, Connection& answered) {
               *answered.mutable_path()->add_path_segments() =
                   segment("forwarder", "f", mesh.forwarder_.token_for(mesh.manager));
             }));
  add({"RegistryWithoutPath", "answers a registration without a path", Code::permission_denied, "the registry's answer",
       [](GuardedMesh& mesh) {
         Member& liar = mesh.intruder;
         bool lying = false;
         std::size_t withdrawn = 0;
         rpc::Services services;
         services[mesh::Endpoints::kRegister] = rpc::unary_handler<NetworkServiceEndpoint, NetworkServiceEndpoint>(
             [&](rpc::ServerCall& call, NetworkServiceEndpoint record) -> base::Task<Result<NetworkServiceEndpoint>> {
               mesh::RegistrationPath path;
               path.tokens = {mesh::token_of(call.metadata)->text, liar.token_for(mesh.client)};
               if (!lying) call.reply_metadata.emplace("path", mesh::format_path(path));
               co_return record;
             });
         services[mesh::Endpoints::kUnregister] = rpc::unary_handler<NetworkServiceEndpoint, Empty>(
             [&](rpc::ServerCall&, NetworkServiceEndpoint) -> base::Task<Result<Empty>> {
               ++withdrawn;
               co_return Empty();
             });
         const auto listener = liar.transport->listen("tcp://liar", services).value();
         mesh::RegistryRemote<mesh::Endpoints> remote(*mesh.client.transport, "tcp://liar",
                                                      mesh.authorization(mesh.client));
         const auto enroll = [&](const char* name) {
           mesh::RegistryCall call(mesh.world.scheduler, mesh.world.scheduler.now() + 15s, base::StopToken());
           NetworkServiceEndpoint record;
           record.set_name(name);
           return outcome(*mesh.world.scheduler.run(remote.enroll(call, record)));
         };
         expect_accepted(enroll("n"));
         lying = true;
         auto refused = enroll("m");
         EXPECT_EQ(withdrawn, 1U);
         mesh.world.finish(listener->finish());
         return refused;
       }});
  return rows;
}

class AttackTest : public ::testing::TestWithParam<Attack> {};

TEST_P(AttackTest, IsRefused) {
  std::string log;
  base::log::set_sink([&log](base::log::Level, std::string_view line) { log += std::string(line) + '\n'; });
  {
    GuardedMesh mesh;
    const auto refused = GetParam().run(mesh);
    EXPECT_THAT(log, ::testing::HasSubstr(GetParam().because));
    EXPECT_FALSE(refused) << "whoever " << GetParam().does << " gets through\n" << log;
    if (!refused) {
      EXPECT_EQ(refused.error().code(), GetParam().expected) << refused.error().message() << '\n' << log;
      if (refused.error().code() == Code::permission_denied) {
        EXPECT_EQ(refused.error().message(), "no sufficient privileges");
        EXPECT_THAT(log, ::testing::HasSubstr("refused "));
      }
    }
  }
  EXPECT_THAT(log, ::testing::Not(::testing::HasSubstr("eyJ"))) << "a token is in the log";
  base::log::set_sink({});
}

INSTANTIATE_TEST_SUITE_P(Table, AttackTest, ::testing::ValuesIn(all()),
                         [](const auto& row) { return std::string(row.param.name); });

// What NSM's peers do and must not be taken for an attack.

TEST(HonestTest, AHeaderInAnyCaseIsRead) {
  GuardedMesh mesh;
  Registering made = at_registry(mesh, "n");
  std::string text = made.path.dump();
  text.replace(text.find("Index"), 5, "iNDEX");
  text.replace(text.find("PathSegments"), 12, "pathsegments");
  text.replace(text.find("\"token\""), 7, "\"TOKEN\"");
  made.call.metadata.erase("path");
  made.call.metadata.emplace("path", text);
  expect_accepted(send(mesh, std::move(made)));
}

TEST(HonestTest, ARestartedClientOfTheSameIdTakesItsConnectionOver) {
  GuardedMesh mesh;
  const Connection before = mesh.connect();
  Asking again = at_manager(mesh, mesh.client, "client-0");
  again.connection() = before;
  auto connection = mesh.send<Connection>(again.call, again.request);
  expect_accepted(connection);
  EXPECT_EQ(connection->path().path_segments(3).id(), before.path().path_segments(3).id());
  EXPECT_TRUE(mesh.connected());
}

TEST(HonestTest, AReplacedHopMayGoOnWithAConnection) {
  GuardedMesh mesh;
  Asking first = at_endpoint(mesh, "x");
  auto made = mesh.send<Connection>(first.call, first.request);
  expect_accepted(made);
  Member successor(mesh.world, "forwarder-2");
  Asking second = at_endpoint(mesh, "x");
  second.call.from = &successor;
  second.call.token = successor.token_for(mesh.endpoint);
  second.connection() = *made;
  second.connection().clear_mechanism();
  second.hop(1).set_token(signed_by(mesh.manager, claims(mesh, mesh.manager, successor)));
  expect_accepted(send(mesh, second));
  EXPECT_EQ(mesh.endpoint_chain->connections().size(), 1U);
}

TEST(HonestTest, TimeoutsCloseWithoutBeingAsked) {
  GuardedMesh mesh;
  expect_accepted(send(mesh, at_endpoint(mesh, "x")));
  EXPECT_EQ(mesh.endpoint_chain->connections().size(), 1U);
  mesh.world.scheduler.run_for(11min);
  EXPECT_EQ(mesh.endpoint_chain->connections().size(), 0U);
}

// Rules.

constexpr const char* kRules = R"(
rules:
  - {allow: request, spiffe_id: spiffe://mesh.test/client, service: shop}
  - {allow: offer, spiffe_id: spiffe://mesh.test/forwarder, service: forwarder}
  - {allow: offer, spiffe_id: spiffe://mesh.test/endpoint, service: shop}
  - {allow: monitor, spiffe_id: spiffe://mesh.test/watcher}
)";

TEST(RulesAttackTest, WhoIsNotAllowedCannotRequest) {
  GuardedMesh mesh({kRules, {}});
  mesh.connect();
  EXPECT_TRUE(mesh.connected());
  const auto refused = send(mesh, at_manager(mesh, mesh.intruder, "x"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::permission_denied);
}

TEST(RulesAttackTest, WhoIsNotAllowedCannotOffer) {
  GuardedMesh mesh({kRules, {}});
  const auto refused = send(mesh, at_manager_registry(mesh, mesh.intruder, "x"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::permission_denied);
  expect_accepted(send(mesh, at_manager_registry(mesh, mesh.endpoint, "y")));
}

// A member that forges the segments before its own passes the policies: only the hop before can be proven. A rule about
// the peer ends that.
TEST(RulesAttackTest, APeerThatIsNoForwarderCannotTakeConnectionsOver) {
  GuardedMesh strict({R"(
rules:
  - {allow: request, peer: spiffe://mesh.test/client, service: shop}
  - {allow: request, peer: spiffe://mesh.test/manager, service: shop}
  - {allow: request, peer: spiffe://mesh.test/forwarder, service: shop}
  - {allow: offer}
)",
                      {}});
  const auto steal = [](GuardedMesh& mesh) {
    const Connection victims = mesh.connect();
    EXPECT_TRUE(mesh.connected());
    Asking a = at_endpoint(mesh, "x");
    a.call.from = &mesh.intruder;
    a.call.token = mesh.intruder.token_for(mesh.endpoint);
    set_path(a.connection(),
             {segment("client", victims.id(), signed_by(mesh.intruder, claims(mesh, mesh.client, mesh.intruder))),
              segment("intruder", "x"), victims.path().path_segments(3)},
             1);
    return send(mesh, std::move(a));
  };
  const auto refused = steal(strict);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::permission_denied);
}

// Monitors.

std::optional<Result<std::set<std::string>>> watch(GuardedMesh& mesh, Member& from, const std::string& id) {
  struct Watching {
    static base::Task<Result<std::set<std::string>>> run(GuardedMesh& mesh, Member& from, std::string id) {
      mesh::MonitorScopeSelector selector;
      if (!id.empty()) selector.add_path_segments()->set_id(id);
      rpc::CallOptions options;
      options.deadline = mesh.world.scheduler.now() + 5s;
      auto channel = from.transport->channel(kManager);
      auto stream =
          co_await (*channel)->stream(mesh::method::kMonitor, selector.SerializeAsString(), std::move(options));
      if (!stream) co_return std::unexpected(stream.error());
      auto first = co_await (*stream)->read();
      if (!first) co_return std::unexpected(first.error());
      std::set<std::string> seen;
      auto event = rpc::parse<mesh::ConnectionEvent>(**first, "monitor");
      for (const auto& [key, connection] : event->connections()) {
        seen.insert(connection.path().path_segments(0).id());
      }
      co_return seen;
    }
  };
  return mesh.world.scheduler.run(Watching::run(mesh, from, id));
}

TEST(MonitorAttackTest, IsOpenByDefaultAsInNsm) {
  GuardedMesh mesh;
  mesh.connect();
  EXPECT_THAT(watch(mesh, mesh.intruder, "")->value(), ::testing::ElementsAre("client-0"));
}

TEST(MonitorAttackTest, RulesHideAnothersConnections) {
  GuardedMesh mesh({kRules, {}});
  mesh.connect();
  Member watcher(mesh.world, "watcher");
  EXPECT_THAT(watch(mesh, watcher, "")->value(), ::testing::ElementsAre("client-0"));
  EXPECT_THAT(watch(mesh, mesh.client, "")->value(), ::testing::ElementsAre("client-0")) << "its own";
  EXPECT_THAT(watch(mesh, mesh.intruder, "")->value(), ::testing::IsEmpty());
  EXPECT_THAT(watch(mesh, mesh.intruder, "client-0")->value(), ::testing::IsEmpty());
}

TEST(MonitorAttackTest, ThePolicyRefusesWhoNamesNothingOfItsOwn) {
  GuardedMesh mesh({"", mesh::parse_policies("etc/nsm/opa/monitor/.*.rego").value()});
  mesh.connect();
  EXPECT_THAT(watch(mesh, mesh.client, "client-0")->value(), ::testing::ElementsAre("client-0"));
  for (const char* id : {"", "client-0"}) {
    const auto refused = *watch(mesh, mesh.intruder, id);
    ASSERT_FALSE(refused) << id;
    EXPECT_EQ(refused.error().code(), Code::permission_denied);
  }
}

}  // namespace
}  // namespace attacks
