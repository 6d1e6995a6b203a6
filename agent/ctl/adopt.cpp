#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/device_copy.hpp"
#include "agent/ctl/signal_watch.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

/// `ordinalctl adopt DEVICE`: an existing filesystem becomes a volume, after it was shown what it holds.
namespace ordinald::ctl {
namespace {

struct AdoptOptions {
  std::string device;
  std::string name;
  std::string claim;
  std::string pool;
  std::string identity;
  bool yes = false;
};

constexpr auto copy_patience = std::chrono::minutes{10};  // what the kernel has not written of the file yet is written first

std::string bytes_text(std::int64_t bytes) { return size_text(bytes) + " (" + std::to_string(bytes) + " bytes)"; }

/// `base  global  pg_wal  …`
std::string names_text(const nlohmann::json& holds) {
  std::string text;
  const nlohmann::json& names = list_at(holds, "names");
  for (const nlohmann::json& name : names) {
    text += (text.empty() ? "" : "  ") + (name.is_string() ? name.get<std::string>() : std::string{});
  }
  const std::int64_t all = number_at(holds, "nameCount");
  const auto shown = static_cast<std::int64_t>(names.size());
  return text + (all > shown ? "  and " + std::to_string(all - shown) + " more" : "");
}

void print_plan(Console& console, const std::string& path, const nlohmann::json& answer) {
  const nlohmann::json& holds = object_at(answer, "holds");
  const auto field = [&](const char* name, const std::string& value) {
    if (!value.empty()) {
      console.field(name, value);
    }
  };
  console.line({Words{path, Tone::bold}, "  ", text_at(holds, "kind")});
  field("size", bytes_text(number_at(holds, "size")));
  field("filesystem", text_at(holds, "type"));
  field("UUID", text_at(holds, "uuid"));
  field("label", text_at(holds, "label"));
  if (number_at(holds, "total") > 0) {
    field("used", size_text(number_at(holds, "used")) + " of " + size_text(number_at(holds, "total")));
    const std::string names = names_text(holds);
    field("holds", names.empty() ? "nothing that is seen without recovery" : names);
  }
  if (const std::int64_t has = number_at(holds, "filesystemSize"); has > 0 && has < number_at(holds, "size")) {
    field("grows", "at its first use, from " + size_text(has) + " to all of the file");
  }
  const nlohmann::json& becomes = object_at(answer, "becomes");
  console.heading("What it becomes");
  field("volume", text_at(becomes, "name"));
  const std::string claim = text_at(becomes, "claim");
  field("claim", claim.empty() ? "none" : claim + ", identity " + text_at(becomes, "identity"));
  field("pool", text_at(becomes, "pool"));
  if (object_at(answer, "copy").empty()) {
    field("file", "it is moved into the pool, and none of its bytes is changed");
  } else {
    field("copy", "its bytes are copied into the pool and compared; the device is only read, and stays as it is");
    if (const std::string backing = text_at(holds, "backing"); !backing.empty()) {
      field("instead", "losetup -d " + path + ", and adopt " + backing + ": on the pool's file system that needs no copy");
    }
  }
  if (!list_at(answer, "refusals").empty()) {
    console.heading("What stands against it");
    for (const nlohmann::json& refusal : list_at(answer, "refusals")) {
      console.item(refusal.is_string() ? refusal.get<std::string>() : refusal.dump());
    }
  }
}

Result<nlohmann::json> request_of(const AdoptOptions& options, const std::string& path) {
  nlohmann::json request{{"path", path}};
  if (!options.claim.empty()) {
    const std::size_t slash = options.claim.find('/');
    if (slash == std::string::npos) {
      return failure(Exit::usage, "a claim is named NAMESPACE/CLAIM, such as prod/data-db-0; of a claim file of this node, host/data-db-0");
    }
    request["namespace"] = options.claim.substr(0, slash);
    request["claim"] = options.claim.substr(slash + 1);
  }
  for (const auto& [key, value] : {std::pair{"name", &options.name}, {"pool", &options.pool}, {"identity", &options.identity}}) {
    if (!value->empty()) {
      request[key] = *value;
    }
  }
  return request;
}

/// `copying 12 GiB of 100 GiB, 210 MiB/s, 7 min left`, written over.
class ProgressLine {
 public:
  ProgressLine(Session& session, std::uint64_t size) : session_(session), size_(size) {}
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() {
    if (shown_) {
      session_.notes().raw("\r\x1b[K");
    }
  }
  void show(bool comparing, std::uint64_t done) {
    if (!session_.notes().is_terminal()) {
      return;
    }
    if (!shown_ || comparing != comparing_) {
      began_ = Clock::now();
      comparing_ = comparing;
      shown_ = true;
    }
    const double took = std::max(std::chrono::duration<double>(Clock::now() - began_).count(), 0.001);
    const double rate = static_cast<double>(done) / took;
    std::string line = (comparing ? "comparing " : "copying ") + size_text(static_cast<std::int64_t>(done)) + " of " +
                       size_text(static_cast<std::int64_t>(size_));
    if (took > 1 && rate > 0) {
      line += ", " + size_text(static_cast<std::int64_t>(rate)) + "/s, " +
              duration_text(std::chrono::seconds{static_cast<std::int64_t>(static_cast<double>(size_ - done) / rate)}) + " left";
    }
    session_.notes().raw("\r\x1b[K" + fitted(line, session_.notes().width() - 1));
    session_.notes().flush();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Session& session_;
  std::uint64_t size_;
  Clock::time_point began_{};
  bool comparing_ = false;
  bool shown_ = false;
};

/// `request` is what was planned of the device, as `planned` says.
Result<nlohmann::json> adopt_copy(Session& session, nlohmann::json request, const nlohmann::json& planned) {
  const nlohmann::json& how = object_at(planned, "copy");
  const std::string device = text_at(request, "path");
  const CopyOrder order{.device = device,
                        .file = text_at(how, "file"),
                        .size = static_cast<std::uint64_t>(number_at(object_at(planned, "holds"), "size")),
                        .thick = flag_at(how, "thick"),
                        .keep_free = static_cast<std::uint64_t>(number_at(how, "keepFree"))};
  const SignalWatch signals;
  const auto failed = [&](Failure why) {
    why.message += "; the copy is removed, and " + device + " is as it was";
    return why;
  };
  ProgressLine line{session, order.size};
  auto copy = DeviceCopy::make(order, [&](bool comparing, std::uint64_t done) { line.show(comparing, done); });
  if (!copy) {
    return failed(copy.error());
  }
  request["path"] = order.file;
  request["copyOf"] = device;
  request["uuid"] = text_at(object_at(planned, "holds"), "uuid");
  request["pool"] = text_at(object_at(planned, "becomes"), "pool");
  request["dryRun"] = false;
  auto answer = session.patient_admin(copy_patience).post("/v1/adopt", request);
  if (!answer && answer.error().status == Exit::unreachable) {
    Failure why = answer.error();
    why.message += ". Whether " + device + " became a volume is not known: the same command finds it so, or does it";
    return why;
  }
  if (!answer) {
    return failed(answer.error());
  }
  copy.value().keep();
  answer.value()["copied"] = {{"from", device}, {"bytes", order.size}, {"written", copy.value().written()}};
  return answer;
}

void print_end(Session& session, const nlohmann::json& answer) {
  Console& console = session.console();
  console.line();
  if (const nlohmann::json& copied = object_at(answer, "copied"); !copied.empty()) {
    console.line({"Copied and compared: ", size_text(number_at(copied, "bytes")), ", of which ", size_text(number_at(copied, "written")),
                  " are written and the rest is zeros. ", text_at(copied, "from"),
                  " still has a filesystem of the same UUID: don't mount it here beside the volume."});
  }
  console.line({"It is now volume ", Words{text_at(object_at(answer, "volume"), "id"), Tone::bold},
                "; `ordinalctl show` says what is known of it."});
  if (const std::string note = text_at(answer, "note"); !note.empty()) {
    console.line({Words{"Note: ", Tone::warning}, note});
  }
}

Result<Exit> adopt(Session& session, const AdoptOptions& options) {
  // The agent has a working directory of its own.
  std::error_code error;
  const std::string path = std::filesystem::absolute(options.device, error).lexically_normal();
  if (error) {
    return failure(Exit::usage, options.device + ": " + error.message());
  }
  TRY(nlohmann::json request, request_of(options, path));
  // A device is looked at first, and copied before it is the agent's turn again.
  const bool is_device = std::filesystem::symlink_status(path, error).type() == std::filesystem::file_type::block;
  request["dryRun"] = is_device || !options.yes;
  TRY(nlohmann::json answer, session.patient_admin(copy_patience).post("/v1/adopt", request));
  const nlohmann::json& refusals = list_at(answer, "refusals");
  const std::string id = text_at(object_at(answer, "volume"), "id");
  const bool already = !id.empty() && object_at(answer, "holds").empty();
  const bool to_be_copied = !already && options.yes && refusals.empty() && !object_at(answer, "copy").empty();
  if (session.json() && !to_be_copied) {
    session.print_json(answer);
  } else if (!session.json() && !already) {
    print_plan(session.console(), path, answer);
    session.console().flush();
  }
  if (!refusals.empty()) {
    return Failure{Exit::failed, "FAILED_PRECONDITION",
                   path + " can't become a volume as it is: " + counted(static_cast<std::int64_t>(refusals.size()), "thing") +
                       " against it" + (session.json() ? "" : ", above")};
  }
  if (!options.yes && !already) {
    return session.needs_yes();
  }
  if (to_be_copied) {
    TRY(answer, adopt_copy(session, request, answer));
    if (session.json()) {
      session.print_json(answer);
    }
  }
  if (already && !session.json()) {
    session.console().line({path, " is volume ", Words{id, Tone::bold}, " already."});
  } else if (!session.json()) {
    print_end(session, answer);
  }
  return Exit::done;
}

}  // namespace

void add_adopt(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("adopt", "Take an existing filesystem as a volume; shows first what it holds");
  const auto options = std::make_shared<AdoptOptions>();
  command->add_option("device", options->device, "An image file that holds a whole filesystem, or a block device, which is copied")
      ->type_name("DEVICE")
      ->required();
  command->add_option("--claim", options->claim, "NAMESPACE/CLAIM that it belongs to")->type_name("CLAIM");
  command->add_option("--name", options->name, "The volume's name; by default after its claim, or after the file")->type_name("NAME");
  command->add_option("--pool", options->pool, "The pool that it becomes a volume of; by default one on a file's file system")
      ->type_name("POOL");
  command->add_option("--identity", options->identity, "ordinal, claim or none; by default ordinal for a claim host/…, else none")
      ->check(CLI::IsMember({"ordinal", "claim", "none"}));
  command->add_flag("--yes", options->yes, "Do it; without it, it is shown what the device holds");
  session.run_with(*command, [&session, options] { return adopt(session, *options); });
}

}  // namespace ordinald::ctl
