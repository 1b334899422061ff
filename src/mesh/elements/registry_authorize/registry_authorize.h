// SPDX-License-Identifier: Apache-2.0
// Who may register and unregister a name: whoever Authorization lets, and of a name that is taken only whoever has it.
//
// Changes: path_ids, to the subjects of the path's tokens, so that they say what was checked. After: registry_path.
// Before: registry_serialised. Keeps, per name: who registered it, from the first call on its way until it is
// unregistered; also when it expires: a name is not free because its owner is down. A failed first registration leaves
// nothing. A refresh is judged anew. Finds are nobody's business.
//
// The owner is the subject of the path's first token: the endpoint's own, as its manager proved it.
#pragma once

#include <concepts>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mesh/core/token.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

// What a record puts on offer, as rules see it.
std::vector<Asked> offers_of(const NetworkServiceEndpoint& endpoint);
std::vector<Asked> offers_of(const NetworkService& service);

// The subjects of a path's tokens, up to the own one.
std::vector<std::string> path_ids_of(const RegistrationPath& path);

template <typename Kind>
class RegistryAuthorize final : public RegistryElement<Kind> {
 public:
  using Record = typename Kind::Record;

  // authorization outlives it; null: everything passes.
  explicit RegistryAuthorize(Authorization* authorization) : authorization_(authorization) {}

  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    if (authorization_ == nullptr) co_return co_await this->next().enroll(call, std::move(record));
    const std::string name = record.name();
    std::vector<std::string> ids = path_ids_of(call.path);
    std::vector<Asked> offers = asked_of(record);
    auto allowed = co_await allow(call, name, offers);
    if (!allowed) co_return std::unexpected(allowed.error());
    // Whoever waits for the same policy server may have been first.
    const auto found = owners_.find(name);
    if (found != owners_.end() && !is_owner(found->second.ids, ids)) co_return refuse_taken(name, found->second.ids);
    const bool first = found == owners_.end();
    if (first) owners_.emplace(name, Owner{ids, offers});
    record.mutable_path_ids()->Assign(ids.begin(), ids.end());
    auto stored = co_await this->next().enroll(call, std::move(record));
    if (!stored && first) owners_.erase(name);
    if (stored) owners_.insert_or_assign(name, Owner{std::move(ids), std::move(offers)});
    co_return stored;
  }

  base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) override {
    if (authorization_ == nullptr) co_return co_await this->next().withdraw(call, std::move(record));
    const std::string name = record.name();
    // What it offers is what was registered, not what this call says.
    const auto known = owners_.find(name);
    std::vector<Asked> offers = known == owners_.end() ? asked_of(record) : known->second.offers;
    auto allowed = co_await allow(call, name, std::move(offers));
    if (!allowed) co_return allowed;
    const std::vector<std::string> ids = path_ids_of(call.path);
    record.mutable_path_ids()->Assign(ids.begin(), ids.end());
    auto done = co_await this->next().withdraw(call, std::move(record));
    if (done) owners_.erase(name);
    co_return done;
  }

  // Takes on the owners that the store remembers, after a restart.
  base::Task<base::Result<void>> adopt(base::Scheduler& scheduler) {
    if (authorization_ == nullptr) co_return base::Result<void>();
    RegistryCall call(scheduler, base::kNoDeadline, base::StopToken());
    typename Kind::Query everything;
    auto all = co_await find_all<Kind>(this->next(), call, std::move(everything));
    if (!all) co_return std::unexpected(all.error());
    for (const auto& found : *all) {
      const Record& record = Kind::record(found.response);
      if (record.path_ids_size() == 0 || record.path_ids(0).empty()) continue;
      owners_.emplace(record.name(), Owner{std::vector<std::string>(record.path_ids().begin(), record.path_ids().end()),
                                           asked_of(record)});
    }
    co_return base::Result<void>();
  }

  std::size_t remembered() const { return owners_.size(); }

 private:
  struct Owner {
    std::vector<std::string> ids;  // of the path; never empty
    std::vector<Asked> offers;
  };

  // A record without services is an offer all the same: who brings it still counts.
  static std::vector<Asked> asked_of(const Record& record) {
    auto offers = offers_of(record);
    if (offers.empty()) offers.emplace_back();
    return offers;
  }

  base::Task<base::Result<void>> allow(RegistryCall& call, const std::string& name, std::vector<Asked> offers) {
    Authorization::Registration registration;
    registration.noun = Kind::kNoun;
    registration.name = name;
    registration.offers = std::move(offers);
    if (const auto found = owners_.find(name); found != owners_.end()) registration.owner_path_ids = found->second.ids;
    co_return co_await authorization_->check_registration(call.path, rpc::peer_of(call.link), registration);
  }

  bool is_owner(const std::vector<std::string>& owner, const std::vector<std::string>& ids) const {
    return !authorization_->names_are_owned() || owner.front() == ids.front();
  }

  std::unexpected<base::Error> refuse_taken(const std::string& name, const std::vector<std::string>& owner) const {
    return authorization_->refuse(fmt::format("registration of {} {}", Kind::kNoun, name),
                                  fmt::format("{} was registering the name already", owner.front()));
  }

  Authorization* const authorization_;
  std::map<std::string, Owner, std::less<>> owners_;  // by name
};

}  // namespace mesh
