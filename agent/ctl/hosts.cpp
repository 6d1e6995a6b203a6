#include "agent/ctl/hosts.hpp"

#include <CLI/App.hpp>
#include <cstdlib>
#include <memory>

#include "agent/ctl/claim_place.hpp"
#include "agent/ctl/commands.hpp"
#include "agent/ctl/hosts_file.hpp"
#include "agent/ctl/text_file.hpp"
#include "agent/durable_file.hpp"

/// `ordinalctl hosts SET [--install | --remove]`: the members' stable names.
namespace ordinald::ctl {

std::string hosts_path() {
  const char* given = std::getenv("ORDINALD_HOSTS_FILE");
  return given != nullptr && *given == '/' ? given : "/etc/hosts";
}

Result<bool> change_hosts(const std::string& path, const ClaimSet& set, HostsChange change, Patience& patience) {
  TRY(const PlaceLock lock, PlaceLock::take("hosts", patience));
  auto text = agent::read_file(path);
  if (!text && text.error().code != mount::ErrorCode::not_found) {
    return Failure{text.error()};
  }
  const std::string before = text ? text.value() : std::string{};
  if (change == HostsChange::refresh && !has_hosts_block(before, set.name)) {
    return false;
  }
  std::vector<std::string> lines;
  if (change == HostsChange::install || (change == HostsChange::refresh && !set.address_base.empty())) {
    TRY(lines, hosts_lines(set));
  }
  auto after = with_hosts_block(before, set.name, lines);
  if (!after) {
    return Failure{after.error().with_context(path)};
  }
  if (after.value() == before) {
    return false;
  }
  TRYV(replace_text_file(path, after.value()));
  return true;
}

namespace {

struct HostsOptions {
  std::string set;
  bool install = false;
  bool remove = false;
};

Result<Exit> hosts(Session& session, const HostsOptions& options) {
  const auto found = find_claim_set(session.claims_dir(), options.set);
  ClaimSet set;
  if (found) {
    set = found.value();
  } else if (options.remove) {
    set.name = options.set;  // its file may be gone before its block
  } else {
    return failure(Exit::usage, found.error().message);
  }
  Patience patience{session, set.name, std::chrono::seconds{60}};
  if (options.install || options.remove) {
    TRY(const bool changed, change_hosts(hosts_path(), set, options.install ? HostsChange::install : HostsChange::remove, patience));
    session.notes().line(hosts_path() + (changed ? " changed" : " is so already"));
    if (session.json()) {
      session.print_json({{"file", hosts_path()}, {"changed", changed}});
    }
    return Exit::done;
  }
  TRY(const auto lines, hosts_lines(set));
  if (session.json()) {
    nlohmann::json members = nlohmann::json::array();
    for (const std::int64_t ordinal : ordinals(set)) {
      members.push_back(
          {{"address", address_of(set, ordinal)}, {"name", stable_name(set, ordinal)}, {"ordinal", ordinal_name(set, ordinal)}});
    }
    session.print_json({{"members", std::move(members)}});
    return Exit::done;
  }
  for (const std::string& line : lines) {
    session.console().line(line);
  }
  return Exit::done;
}

}  // namespace

void add_hosts(CLI::App& app, Session& session) {
  const auto options = std::make_shared<HostsOptions>();
  CLI::App* command = app.add_subcommand("hosts", "The stable names of a set's members, for /etc/hosts");
  command->add_option("set", options->set, "The set, such as db")->type_name("SET")->required();
  CLI::Option* install = command->add_flag("--install", options->install, "Keep them in a marked block of /etc/hosts");
  command->add_flag("--remove", options->remove, "Take that block away")->excludes(install);
  session.run_with(*command, [&session, options] { return hosts(session, *options); });
}

}  // namespace ordinald::ctl
