#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl show VOLUME`: all that is known of one volume.
namespace ordinald::ctl {
namespace {

std::string plain(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string mode_text(const nlohmann::json& entry) { return text_at(entry, "mode") + (flag_at(entry, "readOnly") ? ", read-only" : ""); }

void print_places(Console& console, const nlohmann::json& volume, Time now) {
  if (const auto& stages = list_at(volume, "stages"); !stages.empty()) {
    console.heading("Staged");
    for (const nlohmann::json& stage : stages) {
      console.line({"  ", text_at(stage, "path"), "  ", mode_text(stage), ", since ", when_text(text_at(stage, "since"), now)});
    }
  }
  if (const auto& found = list_at(volume, "found"); !found.empty()) {
    console.heading("Found mounted, by whom is not known (the ledger was lost); each holds the volume");
    for (const nlohmann::json& mount : found) {
      console.line({"  ", text_at(mount, "path"), "  found ", when_text(text_at(mount, "since"), now)});
    }
  }
  if (const auto& mounts = list_at(volume, "mounts"); !mounts.empty()) {
    console.heading("Mounts of it, as the kernel has them");
    for (const nlohmann::json& mount : mounts) {
      console.line({"  ", text_at(mount, "path"), "  ", Words{text_at(mount, "options"), Tone::faint}});
    }
  }
}

void print_device(Console& console, const nlohmann::json& volume) {
  const auto& device = object_at(volume, "device");
  console.heading("Device");
  if (device.empty()) {
    console.line("  none: it is not attached");
    return;
  }
  console.field("path", text_at(device, "path"));
  console.field("number", std::to_string(number_at(device, "major")) + ":" + std::to_string(number_at(device, "minor")) + ", sequence " +
                              std::to_string(number_at(device, "diskSequence")));
  if (const std::string file = text_at(device, "backingFile"); !file.empty()) {
    console.field("image", file);
  }
  console.field("size", size_text(number_at(device, "size")));
}

void print_past(Console& console, const nlohmann::json& volume, Time now) {
  if (const auto& errors = list_at(volume, "lastErrors"); !errors.empty()) {
    console.heading("Last refusals and errors (`ordinalctl explain` says what to do)");
    for (const nlohmann::json& error : errors) {
      console.line({"  ", ago_text(text_at(error, "time"), now), "  ", text_at(error, "call"), "  ",
                    Words{text_at(error, "code"), Tone::bad}, ": ", text_at(error, "message")});
    }
  }
  console.heading("History (the newest last)");
  print_history(console, volume, now);
}

void print_volume(Console& console, const nlohmann::json& volume) {
  const Time now = std::chrono::system_clock::now();
  const auto& health = list_at(volume, "health");
  const auto& publications = list_at(volume, "publications");
  console.line({Words{text_at(volume, "id"), Tone::bold}, "  ", text_at(volume, "state"), "  ",
                health.empty() ? Words{"healthy", Tone::good} : Words{"NOT HEALTHY", Tone::bad}});
  print_problems(console, health, Tone::bad);
  if (publications.empty()) {
    console.field("held by", "nobody");
  }
  for (const nlohmann::json& publication : publications) {
    console.field("held by", {holder_text(object_at(publication, "holder")), Tone::bold});
    console.field("  at", text_at(publication, "target"));
    console.field("  since", when_text(text_at(publication, "since"), now) + ", " + mode_text(publication));
  }
  const std::string claim = text_at(volume, "claim");
  const std::string identity = text_at(volume, "identity");
  console.field("claim", (claim.empty() ? "none" : claim) + (identity.empty() || identity == "none" ? "" : ", bound by " + identity));
  console.field("name", text_at(volume, "name"));
  console.field("pool", text_at(volume, "pool"));
  console.field("size", size_text(number_at(volume, "size")) + " (" + std::to_string(number_at(volume, "size")) + " bytes), blocks of " +
                            std::to_string(number_at(volume, "blockSize")));
  console.field("filesystem",
                (text_at(volume, "fsType").empty() ? "none" : text_at(volume, "fsType")) + ", content " + text_at(volume, "content"));

  print_places(console, volume, now);
  print_device(console, volume);
  print_past(console, volume, now);

  if (const auto& record = object_at(volume, "record"); !record.empty()) {
    console.heading("Record");
    for (const auto& [key, value] : record.items()) {
      if (key != "history") {  // it stands above
        console.field(harmless(key), plain(value), 20);
      }
    }
  }
}

Result<Exit> show(Session& session, const std::string& volume) {
  TRY(const nlohmann::json answer, session.admin().get(volume_path(volume)));
  if (session.json()) {
    session.print_json(answer);
  } else {
    print_volume(session.console(), answer);
  }
  return Exit::done;
}

}  // namespace

void add_show(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("show", "One volume: holders, mounts, device, last errors, history, record");
  const auto volume = std::make_shared<std::string>();
  add_volume_argument(*command, *volume);
  session.run_with(*command, [&session, volume] { return show(session, *volume); });
}

}  // namespace ordinald::ctl
