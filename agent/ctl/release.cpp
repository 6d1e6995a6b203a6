#include <algorithm>
#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl release VOLUME --holder HOLDER`: ends a hold by hand, after it was shown what is still mounted where.
namespace ordinald::ctl {
namespace {

struct ReleaseOptions {
  std::string volume;
  std::string holder;
  std::string target;
  bool yes = false;
};

/// A holder goes by NAMESPACE/NAME, its uid or its unit; who is known by none of these, by `unknown`.
bool is_named(const nlohmann::json& holder, const std::string& text) {
  const std::string name = text_at(holder, "name");
  const std::string uid = text_at(holder, "uid");
  const std::string unit = text_at(holder, "unit");
  if (name.empty() && uid.empty() && unit.empty()) {
    return text == "unknown";
  }
  return !text.empty() && ((!name.empty() && text == text_at(holder, "namespace") + "/" + name) || text == uid || text == unit);
}

bool is_meant(const nlohmann::json& hold, const ReleaseOptions& options) {
  return is_named(object_at(hold, "holder"), options.holder) && (options.target.empty() || options.target == text_at(hold, "target"));
}

Failure nobody(const std::string& id, const nlohmann::json& holds, const ReleaseOptions& options) {
  std::string text = id + " is not held by " + options.holder + (options.target.empty() ? "" : " at " + options.target) + "; ";
  if (holds.empty()) {
    return failure(Exit::failed, text + "nobody holds it");
  }
  text += "held by ";
  for (const nlohmann::json& hold : holds) {
    text += (&hold == &holds.front() ? "" : ", ") + holder_text(object_at(hold, "holder")) + " at " + text_at(hold, "target");
  }
  return failure(Exit::failed, text);
}

Result<Exit> release(Session& session, const ReleaseOptions& options) {
  TRY(const nlohmann::json explanation, session.admin().get(volume_path(options.volume) + "/explain"));
  const std::string id = text_at(explanation, "volume");
  nlohmann::json meant = nlohmann::json::array();
  for (const nlohmann::json& hold : list_at(explanation, "holds")) {
    if (is_meant(hold, options)) {
      meant.push_back(hold);
    }
  }
  if (meant.empty()) {
    return nobody(id, list_at(explanation, "holds"), options);
  }
  if (!session.json()) {
    Console& console = session.console();
    console.line({"This ends the hold on ", Words{id, Tone::bold}, " of:"});
    print_holds(console, meant, std::chrono::system_clock::now());
    for (const nlohmann::json& hold : meant) {
      if (!list_at(hold, "processes").empty()) {
        console.line({Words{"Its processes go on writing: end them first, or two workloads write to one filesystem.", Tone::bad}});
        break;
      }
    }
    if (const auto& others = list_at(explanation, "others"); !others.empty() && !std::ranges::all_of(meant, is_told_apart)) {
      console.line({Words{"Its processes can't be told from others', and may be among these: end them first.", Tone::bad}});
      print_processes(console, others);
    }
  }
  if (!options.yes) {
    if (session.json()) {
      session.print_json({{"volume", id}, {"wouldRelease", meant}});
    }
    return session.needs_yes();
  }
  nlohmann::json request{{"holder", options.holder}};
  if (!options.target.empty()) {
    request["target"] = options.target;
  }
  const auto posted = session.admin().post(volume_path(id) + "/release", request);
  if (!posted) {
    Failure refusal = posted.error();
    refusal.status = refusal.code == "FAILED_PRECONDITION" ? Exit::busy : refusal.status;  // its target or its processes
    return refusal;
  }
  const nlohmann::json& answer = posted.value();
  if (session.json()) {
    session.print_json(answer);
    return Exit::done;
  }
  Console& console = session.console();
  console.line();
  for (const nlohmann::json& released : list_at(answer, "released")) {
    console.line({Words{"released ", Tone::good}, text_at(released, "target"), "  ", holder_text(object_at(released, "holder"))});
  }
  print_left(console, answer);
  return Exit::done;
}

}  // namespace

void add_release(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("release", "End a hold by hand; shows first what is still mounted where");
  const auto options = std::make_shared<ReleaseOptions>();
  add_volume_argument(*command, options->volume);
  command->add_option("--holder", options->holder, "Whose hold: NAMESPACE/NAME, a pod's uid, a unit, or unknown")
      ->type_name("HOLDER")
      ->required();
  command->add_option("--target", options->target, "Only the hold at this path")->type_name("DIR");
  command->add_flag("--yes", options->yes, "Do it; without it, it is shown what would be done");
  session.run_with(*command, [&session, options] { return release(session, *options); });
}

}  // namespace ordinald::ctl
