// SPDX-License-Identifier: Apache-2.0
// patchbay lab list | up | run CASE…|all | exec POD -- CMD… | down
#include "lab/lab.h"

#include <fmt/format.h>

#include <map>
#include <memory>

#include "cmd/commands.h"

namespace cmd {
namespace {

// What the command line fills; lives as long as the action that reads it.
struct LabArguments {
  lab::Options options;
  std::string lab;
  std::string pod;
  std::vector<std::string> command;
  bool all = false;
};
using Arguments = std::shared_ptr<LabArguments>;

// An option that is one of a few words; a wrong one is answered with all of them.
template <typename Value>
void add_choice(CLI::App& command, const std::string& name, Value& field, std::map<std::string, Value> words,
                const std::string& standard, const std::string& help) {
  std::string all;
  for (const auto& [word, value] : words) all += (all.empty() ? "" : "|") + word;
  command
      .add_option_function<std::string>(
          name,
          [&field, name, all, words = std::move(words)](const std::string& word) {
            const auto found = words.find(word);
            if (found == words.end())
              throw CLI::ValidationError(fmt::format("{} {} is no choice: write {}", name, word, all));
            field = found->second;
          },
          help)
      ->type_name(all)
      ->default_str(standard);
}

void add_mesh_options(CLI::App& command, lab::Options& options) {
  add_choice(command, "--plane", options.plane,
             {{"auto", lab::Plane::automatic}, {"xdp", lab::Plane::xdp}, {"kernel", lab::Plane::kernel}}, "auto",
             "who carries the packets");
  command.add_option("--nodes", options.nodes, "how many nodes to build")->capture_default_str();
  command.add_flag("--same-node", options.same_node, "client and endpoint on one node");
  add_choice(command, "--underlay", options.underlay, {{"4", lab::UnderlayFamily::v4}, {"6", lab::UnderlayFamily::v6}},
             "4", "IP version between the nodes");
  command.add_option("--underlay-mtu", options.underlay_mtu, "MTU between the nodes")->capture_default_str();
}

void add_list(CLI::App& lab_command, Action& action, const Arguments& arguments) {
  auto* command = lab_command.add_subcommand("list", "the use cases, and the labs on this machine");
  command->add_flag("--json", arguments->options.json, "print JSON");
  command->callback([&action, arguments] { action = [arguments] { return lab::list(arguments->options); }; });
}

void add_run(CLI::App& lab_command, Action& action, const Arguments& arguments) {
  auto* command = lab_command.add_subcommand("run", "run use cases and check every packet; exit 0 if all held");
  command->add_option("CASE", arguments->options.cases, "names from `patchbay lab list`, or all")->required();
  add_mesh_options(*command, arguments->options);
  command->add_flag("--keep", arguments->options.keep, "leave the mesh up afterwards, for `lab exec` and `lab down`");
  command->add_flag("--json", arguments->options.json, "report in JSON on standard output");
  command->callback([&action, arguments] { action = [arguments] { return lab::run(arguments->options); }; });
}

void add_up(CLI::App& lab_command, Action& action, const Arguments& arguments) {
  auto* command = lab_command.add_subcommand("up", "build a mesh, plug one case and leave it up");
  command->add_option("CASE", arguments->options.cases, "a name from `patchbay lab list`")
      ->expected(0, 1)
      ->default_str("Kernel2Ethernet2Kernel");
  add_mesh_options(*command, arguments->options);
  command->add_flag("--json", arguments->options.json, "report in JSON on standard output");
  command->callback([&action, arguments] { action = [arguments] { return lab::up(arguments->options); }; });
}

void add_exec(CLI::App& lab_command, Action& action, const Arguments& arguments) {
  auto* command = lab_command.add_subcommand("exec", "run a command inside a pod or node of a lab that is up");
  command->add_option("POD", arguments->pod, "client, endpoint, node1, …, underlay")->required();
  command->add_option("CMD", arguments->command, "the command and its arguments, after --")->required();
  command->add_option("--lab", arguments->lab, "which lab, if several are up");
  command->callback([&action, arguments] {
    action = [arguments] {
      return lab::exec(arguments->options.places, arguments->lab, arguments->pod, arguments->command);
    };
  });
}

void add_down(CLI::App& lab_command, Action& action, const Arguments& arguments) {
  auto* command = lab_command.add_subcommand("down", "end the lab that is up, and remove what dead labs left");
  command->add_option("--lab", arguments->lab, "which lab, if several are up");
  command->add_flag("--all", arguments->all, "every lab that is up");
  command->callback([&action, arguments] {
    action = [arguments] { return lab::down(arguments->options.places, arguments->lab, arguments->all); };
  });
}

}  // namespace

void add_lab(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("lab", "build nodes out of network namespaces and run the use cases on them");
  command->require_subcommand(1);
  const auto arguments = std::make_shared<LabArguments>();
  add_list(*command, action, arguments);
  add_up(*command, action, arguments);
  add_run(*command, action, arguments);
  add_exec(*command, action, arguments);
  add_down(*command, action, arguments);
}

}  // namespace cmd
