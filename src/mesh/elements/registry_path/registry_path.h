// SPDX-License-Identifier: Apache-2.0
// Extends the path a registration takes by this hop: reads the "path" metadata, puts the caller's and its own token
// into it and their subjects into the record's path_ids, and leaves the path, as seen by the caller, in the call for
// the answer.
//
// Changes: call.path, record.path_ids. Keeps nothing. Before it: nothing. A refresh brings its path back and has the
// tokens renewed in place. Finds pass untouched: they have no path.
#pragma once

#include "mesh/core/token.h"
#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

// Sets call.path to the path the call came with, one hop further. Errors name what is wrong with the metadata.
base::Result<void> extend_path(RegistryCall& call, const std::string& own_token);

// path_ids[index - 1] and path_ids[index] as the path's tokens say.
template <typename Record>
void set_path_ids(Record& record, const RegistrationPath& path) {
  for (std::uint32_t hop = path.index - 1; hop <= path.index; ++hop) {
    while (record.path_ids_size() <= static_cast<int>(hop)) record.add_path_ids();
    record.set_path_ids(static_cast<int>(hop), token_subject(path.tokens[hop]));
  }
}

template <typename Kind>
class RegistryPath final : public RegistryElement<Kind> {
 public:
  using Record = typename Kind::Record;

  explicit RegistryPath(TokenSource& tokens) : tokens_(tokens) {}

  base::Task<base::Result<Record>> enroll(RegistryCall& call, Record record) override {
    if (auto extended = extend(call, record); !extended) co_return std::unexpected(extended.error());
    auto stored = co_await this->next().enroll(call, std::move(record));
    if (call.path.index > 0) --call.path.index;
    co_return stored;
  }

  base::Task<base::Result<void>> withdraw(RegistryCall& call, Record record) override {
    if (auto extended = extend(call, record); !extended) co_return extended;
    auto done = co_await this->next().withdraw(call, std::move(record));
    if (call.path.index > 0) --call.path.index;
    co_return done;
  }

 private:
  base::Result<void> extend(RegistryCall& call, Record& record) {
    const Token own = tokens_.issue(rpc::peer_of(call.link));
    if (auto extended = extend_path(call, own.text); !extended) return extended;
    set_path_ids(record, call.path);
    return {};
  }

  TokenSource& tokens_;
};

}  // namespace mesh
