#include <filesystem>
#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl adopt DEVICE`: an existing filesystem becomes a volume, after it was shown what it holds.
namespace ordinald::ctl {
namespace {

struct Options {
  std::string device;
  std::string name;
  std::string pool;
  bool yes = false;
};

void print_holds_of_device(Console& console, const std::string& path, const nlohmann::json& holds) {
  console.line({Words{path, Tone::bold}, " holds:"});
  if (holds.empty()) {
    console.line("  nothing that is known");
  }
  for (const auto& [key, value] : holds.items()) {
    if (key == "size" && value.is_number()) {
      console.field("size", size_text(value.get<std::int64_t>()) + " (" + value.dump() + " bytes)");
    } else if (value.is_string() ? !value.get<std::string>().empty() : !value.is_null()) {
      console.field(harmless(key), value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

Result<Exit> adopt(Session& session, const Options& options) {
  // The agent has a working directory of its own.
  std::error_code error;
  const std::string path = std::filesystem::absolute(options.device, error).lexically_normal();
  if (error) {
    return failure(Exit::usage, options.device + ": " + error.message());
  }
  nlohmann::json request{{"path", path}, {"dryRun", !options.yes}};
  if (!options.name.empty()) {
    request["name"] = options.name;
  }
  if (!options.pool.empty()) {
    request["pool"] = options.pool;
  }
  TRY(const nlohmann::json answer, session.admin().post("/v1/adopt", request));
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_holds_of_device(session.console(), path, object_at(answer, "holds"));
  }
  if (!options.yes) {
    return session.needs_yes();
  }
  if (!session.json()) {
    const auto& volume = object_at(answer, "volume");
    session.console().line(
        {"It is now volume ", Words{text_at(volume, "id"), Tone::bold}, "; `ordinalctl show` says what is known of it."});
  }
  return Exit::done;
}

}  // namespace

void add_adopt(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("adopt", "Take an existing filesystem as a volume; shows first what it holds");
  const auto options = std::make_shared<Options>();
  command->add_option("device", options->device, "A block device, or an image file in a pool's directory")->type_name("DEVICE")->required();
  command->add_option("--name", options->name, "The volume's name; by default after the device")->type_name("NAME");
  command->add_option("--pool", options->pool, "The pool that it becomes a volume of")->type_name("POOL");
  command->add_flag("--yes", options->yes, "Do it; without it, it is shown what the device holds");
  session.run_with(*command, [&session, options] { return adopt(session, *options); });
}

}  // namespace ordinald::ctl
