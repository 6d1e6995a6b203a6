#include "tests/support/fake_tools.hpp"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <string_view>

namespace ordinald::testing {

using mount::ToolOutcome;
using mount::ToolRequest;

namespace {

constexpr std::uint64_t mib = std::uint64_t{1024} * 1024;
constexpr int fsck_operational_error = 8;
constexpr int fsck_errors_left = 4;

/// A command line: short options as getopt(3) reads them, long ones as `--name`.
struct CommandLine {
  std::map<std::string, std::vector<std::string>> options;
  std::vector<std::string> operands;

  [[nodiscard]] bool has(const std::string& option) const { return options.contains(option); }
  /// A key of an option's comma-separated list: its value, or "" where it has none.
  [[nodiscard]] std::optional<std::string> sub_option(const std::string& option, const std::string& key) const;
};

std::optional<std::string> CommandLine::sub_option(const std::string& option, const std::string& key) const {
  const auto values = options.find(option);
  if (values == options.end()) {
    return std::nullopt;
  }
  // Of several, mke2fs takes the last.
  std::string rest = values->second.back() + ",";
  while (!rest.empty()) {
    const std::string item = rest.substr(0, rest.find(','));
    rest.erase(0, item.size() + 1);
    if (item == key) {
      return std::string{};
    }
    if (item.starts_with(key + "=")) {
      return item.substr(key.size() + 1);
    }
  }
  return std::nullopt;
}

/// `with_value`: the letters that take one, and the long options that do.
CommandLine parse(const std::vector<std::string>& argv, std::string_view with_value, std::string_view long_with_value = {}) {
  CommandLine line;
  for (std::size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    if (word.starts_with("--")) {
      const std::size_t equals = word.find('=');
      const std::string name = word.substr(0, equals);
      std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
      if (equals == std::string::npos && name == long_with_value && i + 1 < argv.size()) {
        value = argv[++i];
      }
      line.options[name].push_back(value);
      continue;
    }
    if (word.size() < 2 || word.front() != '-') {
      line.operands.push_back(word);
      continue;
    }
    for (std::size_t at = 1; at < word.size(); ++at) {
      std::vector<std::string>& values = line.options[std::string{"-"} + word[at]];
      if (with_value.find(word[at]) == std::string_view::npos) {
        values.emplace_back();
        continue;
      }
      values.push_back(at + 1 < word.size() ? word.substr(at + 1) : i + 1 < argv.size() ? argv[++i] : "");
      break;
    }
  }
  return line;
}

struct Maker {
  std::string type;
  std::string_view with_value;
  std::uint64_t minimum = 0;
};

const Maker* maker_of(const std::string& program) {
  static const std::map<std::string, Maker> makers{
      {"mkfs.ext4", {.type = "ext4", .with_value = "bCdEegGiIJlLmMNoOrTUz", .minimum = mib / 16}},
      {"mkfs.xfs", {.type = "xfs", .with_value = "bcdilLmnprs", .minimum = 300 * mib}},
      {"mkfs.btrfs", {.type = "btrfs", .with_value = "AbLsmndOrUR", .minimum = 109 * mib}},
  };
  const auto found = makers.find(program);
  return found == makers.end() ? nullptr : &found->second;
}

ToolOutcome ended(int status, std::string output = {}) { return {.exit_status = status, .output = std::move(output)}; }

bool in_use(const FakeLoop& loop) { return loop.held || !loop.filesystem.expired(); }

bool on_its_device(const CommandLine& line, const ToolRequest& request) {
  return !line.operands.empty() && line.operands.front() == request.device.path;
}

CommandLine parse_mkfs(const Maker& maker, const ToolRequest& request) { return parse(request.argv, maker.with_value, "--csum"); }

std::string uuid_asked(const Maker& maker, const CommandLine& line) {
  if (maker.type == "xfs") {
    return line.sub_option("-m", "uuid").value_or("");
  }
  return line.has("-U") ? line.options.at("-U").back() : "";
}

/// Why this mkfs would not begin; empty when it would.
std::string refusal(const Maker& maker, const CommandLine& line, const ToolRequest& request, const FakeLoop& loop) {
  const FakeContent& content = loop.image->content;
  if (!on_its_device(line, request)) {
    return "no such device";
  }
  if (in_use(loop)) {
    return request.device.path + " is apparently in use by the system";
  }
  if (loop.read_only) {
    return request.device.path + ": Operation not permitted";
  }
  if (loop.size < maker.minimum) {
    return "the device is too small";
  }
  const bool signature = content.kind == FakeContent::Kind::filesystem || content.kind == FakeContent::Kind::foreign;
  if (signature && maker.type != "ext4" && !line.has("-f")) {
    return request.device.path + " appears to contain an existing filesystem (" + content.type + "). Use the -f option to force overwrite.";
  }
  if (maker.type == "btrfs" && content.uuid == uuid_asked(maker, line) && !content.uuid.empty()) {
    return "non-unique UUID";
  }
  return {};
}

ToolOutcome finish_mkfs(const Maker& maker, const ToolRequest& request, FakeLoop& loop) {
  const CommandLine line = parse_mkfs(maker, request);
  FakeImage& image = *loop.image;
  std::string uuid = uuid_asked(maker, line);
  if (uuid.empty()) {
    uuid = "00000000-0000-4000-8000-" + std::to_string(100'000'000'000 + image.inode);
  }
  image.content = {.kind = FakeContent::Kind::filesystem, .usage = "filesystem", .type = maker.type, .uuid = uuid, .size = loop.size};
  image.content.tree[""] = {.kind = FileKind::directory, .mode = 0755};
  if (maker.type == "ext4") {
    image.content.tree["lost+found"] = {.kind = FileKind::directory, .mode = 0700};
  }
  const std::uint64_t written = std::min(image.size, image.size / 64 + mib);
  const bool discards = maker.type == "ext4" ? !line.sub_option("-E", "nodiscard") : !line.has("-K");
  image.allocated = discards ? written : std::max(image.allocated, written);
  return ended(0);
}

ToolOutcome check(const ToolRequest& request, FakeLoop& loop, std::optional<int> undo_is_full) {
  const CommandLine line = parse(request.argv, "CBEjlLz");
  FakeContent& content = loop.image->content;
  if (!on_its_device(line, request)) {
    return ended(fsck_operational_error, "e2fsck: No such file or directory");
  }
  if (in_use(loop)) {
    return ended(fsck_operational_error, request.device.path + " is in use.\ne2fsck: Cannot continue, aborting.");
  }
  if (content.kind != FakeContent::Kind::filesystem || content.type != "ext4") {
    return ended(fsck_operational_error, "e2fsck: Bad magic number in super-block");
  }
  if (undo_is_full && line.has("-z")) {
    content.left_out = true;
    return ended(*undo_is_full, request.device.path + ": No space left on device while writing block 9");
  }
  if (content.damaged || content.half_made || content.left_out) {
    if (!line.has("-y")) {
      return ended(fsck_errors_left, request.device.path + ": UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.");
    }
    content.damaged = false;
    content.checked = true;
    return ended(1, "***** FILE SYSTEM WAS MODIFIED *****");
  }
  content.checked = content.checked || line.has("-f");
  return ended(0, request.device.path + ": clean");
}

ToolOutcome resize(const ToolRequest& request, FakeLoop& loop) {
  const CommandLine line = parse(request.argv, "dSz");
  FakeContent& content = loop.image->content;
  if (!on_its_device(line, request) || in_use(loop) || content.kind != FakeContent::Kind::filesystem || content.type != "ext4") {
    return ended(1, "resize2fs: the device is busy or holds no ext4");
  }
  if (!content.checked) {
    return ended(1, "Please run 'e2fsck -f " + request.device.path + "' first.");
  }
  content.size = std::max(content.size, loop.size);
  return ended(0);
}

/// Time does not pass: it has slept, or its deadline has passed.
ToolOutcome sleep_for(const ToolRequest& request) {
  const double seconds = request.argv.size() > 1 ? std::stod(request.argv[1]) : 0;
  const std::chrono::milliseconds asked{static_cast<std::int64_t>(std::lround(seconds * 1000))};
  if (asked > request.deadline) {
    return {.signal = SIGKILL, .timed_out = true, .output = {}, .took = request.deadline};
  }
  return {.exit_status = 0, .output = {}, .took = asked};
}

ToolOutcome echo(const ToolRequest& request) {
  std::string text;
  for (std::size_t i = 1; i < request.argv.size(); ++i) {
    text += (i > 1 ? " " : "") + request.argv[i];
  }
  return ended(0, text + "\n");
}

}  // namespace

std::string program_name(const std::vector<std::string>& argv) {
  return argv.empty() ? std::string{} : argv.front().substr(argv.front().rfind('/') + 1);
}

bool is_mkfs(const std::string& program) { return maker_of(program) != nullptr; }

std::optional<ToolOutcome> begin_mkfs(const ToolRequest& request, FakeLoop& loop) {
  const Maker& maker = *maker_of(program_name(request.argv));
  const CommandLine line = parse_mkfs(maker, request);
  if (const std::string why = refusal(maker, line, request, loop); !why.empty()) {
    return ended(1, program_name(request.argv) + ": " + why);
  }
  loop.image->content = {.kind = FakeContent::Kind::filesystem,
                         .usage = "filesystem",
                         .type = maker.type,
                         .uuid = uuid_asked(maker, line),
                         .size = loop.size,
                         .half_made = true};
  return std::nullopt;
}

std::optional<ToolOutcome> run_fake_tool(const ToolRequest& request, FakeLoop& loop, std::optional<int> undo_is_full) {
  const std::string program = program_name(request.argv);
  if (const Maker* maker = maker_of(program); maker != nullptr) {
    return finish_mkfs(*maker, request, loop);
  }
  if (program == "e2fsck") {
    return check(request, loop, undo_is_full);
  }
  if (program == "resize2fs") {
    return resize(request, loop);
  }
  FakeContent& content = loop.image->content;
  if (program == "e2undo" && content.left_out) {
    content.left_out = std::ranges::find(request.argv, "-n") != request.argv.end();
    return ended(0);
  }
  if (program == "e2undo") {
    return ended(1, "The file system superblock doesn't match the undo file.");  // here a growth is done or isn't
  }
  if (program == "echo") {
    return echo(request);
  }
  if (program == "true" || program == "false") {
    return ended(program == "true" ? 0 : 1);
  }
  if (program == "sleep") {
    return sleep_for(request);
  }
  return std::nullopt;
}

}  // namespace ordinald::testing
