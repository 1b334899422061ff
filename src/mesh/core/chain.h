// SPDX-License-Identifier: Apache-2.0
// A list of elements that every call passes from top to bottom. The list is the program: chains/ holds one file a role.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <typeindex>
#include <vector>

#include "mesh/core/element.h"

namespace mesh {

class Chain {
 public:
  base::Task<base::Result<Connection>> request(CallContext& context, NetworkServiceRequest request) const {
    return request_at(0, context, std::move(request));
  }
  base::Task<base::Result<void>> close(CallContext& context, Connection connection) const {
    return close_at(0, context, std::move(connection));
  }

  // From the element at a position on; past the last one a request is answered with its own connection.
  base::Task<base::Result<Connection>> request_at(std::size_t position, CallContext& context,
                                                  NetworkServiceRequest request) const;
  base::Task<base::Result<void>> close_at(std::size_t position, CallContext& context, Connection connection) const;

  std::vector<std::string_view> names() const;

 private:
  friend class ChainBuilder;
  struct Entry {
    std::string name;
    std::shared_ptr<Element> element;
  };
  std::vector<Entry> entries_;
};

class ChainBuilder {
 public:
  // Adds an element below those added so far. Throws std::logic_error, naming both, if nothing above gives what it
  // needs: a mistake in the program, found when the process starts and by every test that builds the chain.
  template <typename T>
  ChainBuilder& add(std::string name, std::shared_ptr<T> element) {
    check(name, typename T::Needs());
    give(typename T::Gives());
    chain_.entries_.push_back({std::move(name), std::move(element)});
    return *this;
  }

  Chain build() && { return std::move(chain_); }

 private:
  template <typename... T>
  void check(const std::string& name, Types<T...>) {
    (require(name, std::type_index(typeid(std::type_identity<T>)), type_name(typeid(std::type_identity<T>))), ...);
  }
  template <typename... T>
  void give(Types<T...>) {
    (given_.insert(std::type_index(typeid(std::type_identity<T>))), ...);
  }
  static std::string type_name(const std::type_info& type);
  void require(const std::string& name, std::type_index type, const std::string& needed) const;

  Chain chain_;
  std::set<std::type_index> given_;
};

}  // namespace mesh
