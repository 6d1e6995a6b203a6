#include "mount/filesystem.hpp"

#include "mount/btrfs.hpp"
#include "mount/ext4.hpp"
#include "mount/xfs.hpp"

namespace ordinald::mount {
namespace {

/// The end of a tool's words, on one line, for an error's text: it goes into answers, which must be UTF-8, and onto terminals. Tools run
/// with LC_ALL=C, so what is not ASCII says nothing.
std::string last_words(std::string output) {
  // What e2fsprogs says of every undo file; those here are the agent's to use, and nobody else's.
  if (const std::size_t notice = output.find("Overwriting existing filesystem; this can be undone"); notice != std::string::npos) {
    const std::size_t end = output.find("\n\n", notice);
    output.erase(notice, end == std::string::npos ? end : end + 2 - notice);
  }
  constexpr std::size_t longest = 600;
  std::string text = output.size() > longest ? "..." + output.substr(output.size() - longest) : output;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
    text.pop_back();
  }
  for (char& c : text) {
    if (c == '\n' || c == '\r' || c == '\t') {
      c = ' ';
    } else if (c < ' ' || c > '~') {
      c = '?';
    }
  }
  return text.empty() ? "it printed nothing" : "it said: " + text;
}

std::string how_it_ended(const ToolOutcome& outcome) {
  if (outcome.timed_out) {
    return "was killed at its deadline, after " + std::to_string(outcome.took.count() / 1000) + " s";
  }
  if (outcome.signal != 0) {
    return "was ended by signal " + std::to_string(outcome.signal);
  }
  return "ended with status " + std::to_string(outcome.exit_status);
}

/// fsck(8), "EXIT STATUS".
std::string check_bits(int status) {
  struct Bit {
    int bit;
    const char* meaning;
  };
  static constexpr Bit bits[] = {{1, "errors corrected"},
                                 {2, "the system should be rebooted"},
                                 {4, "errors left uncorrected"},
                                 {8, "operational error"},
                                 {16, "usage error"},
                                 {32, "cancelled"},
                                 {128, "shared-library error"}};
  std::string text;
  for (const Bit& bit : bits) {
    if ((status & bit.bit) != 0) {
      text += text.empty() ? "" : ", ";
      text += bit.meaning;
    }
  }
  return text;
}

}  // namespace

const Filesystem* find_filesystem(std::string_view name) {
  for (const Filesystem* filesystem : {ext4_filesystem(), xfs_filesystem(), btrfs_filesystem()}) {
    if (filesystem->name() == name) {
      return filesystem;
    }
  }
  return nullptr;
}

Result<void> judge_check(const Filesystem& filesystem, const std::string& device, const std::string& lasting_path,
                         const ToolOutcome& outcome) {
  const bool exited = !outcome.timed_out && outcome.signal == 0;
  if (exited && (outcome.exit_status == 0 || outcome.exit_status == 1)) {
    return success();
  }
  std::string message = "the check of the " + std::string{filesystem.name()} + " on " + device + " " + how_it_ended(outcome);
  if (exited) {
    message += " (" + check_bits(outcome.exit_status) + ")";
  }
  message += "; it is not mounted; " + last_words(outcome.output) + "; repair it by hand: " + filesystem.repair_hint(lasting_path);
  return make_error(ErrorCode::failed_precondition, std::move(message));
}

Result<void> judge_tool(std::string_view what, const ToolOutcome& outcome) {
  if (!outcome.timed_out && outcome.signal == 0 && outcome.exit_status == 0) {
    return success();
  }
  return make_error(ErrorCode::internal, std::string{what} + " " + how_it_ended(outcome) + "; " + last_words(outcome.output));
}

}  // namespace ordinald::mount
