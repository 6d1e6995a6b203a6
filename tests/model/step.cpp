#include "tests/model/step.hpp"

#include <array>

namespace ordinald::testing {

std::string to_string(Code code) {
  static constexpr std::array names{"OK",          "INVALID_ARGUMENT",   "NOT_FOUND",    "ALREADY_EXISTS", "FAILED_PRECONDITION",
                                    "ABORTED",     "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "UNIMPLEMENTED",  "INTERNAL",
                                    "UNAVAILABLE", "no answer"};
  return names.at(static_cast<std::size_t>(code));
}

std::string to_string(const Codes& codes) {
  std::string text;
  for (const Code code : codes) {
    text += (text.empty() ? "" : " or ") + to_string(code);
  }
  return text;
}

std::string to_string(Verb verb) {
  static constexpr std::array names{"create",      "remove",         "validate",   "get",     "list",    "capacity",  "expand",
                                    "health",      "list_health",    "stage",      "unstage", "publish", "unpublish", "stats",
                                    "node_health", "storage_health", "node_expand"};
  return names.at(static_cast<std::size_t>(verb));
}

std::string to_string(const Call& call) {
  std::string text = to_string(call.verb) + " v" + std::to_string(call.volume);
  const auto say = [&](const char* key, const std::string& value) {
    if (!value.empty()) {
      text += std::string{" "} + key + value;
    }
  };
  say("", call.staging);
  say("-> ", call.target);
  if (call.verb == Verb::create || call.verb == Verb::stage || call.verb == Verb::publish || call.verb == Verb::validate) {
    say("mode ", std::to_string(call.mode));
    say("", call.both ? "block+mount" : call.block ? "block" : "mount");
    say("fs ", call.fs);
    say("flag ", call.flag);
    say("", call.readonly ? "readonly" : "");
    say("", call.allow ? "multiNodeModes" : "");
    say("pod ", call.pod);
  }
  say("size ", call.size > 0 ? std::to_string(call.size) : "");
  say("limit ", call.limit > 0 ? std::to_string(call.limit) : "");
  say("id ", call.id);
  return text;
}

std::string to_string(const Step& step) {
  static constexpr std::array kinds{"calls", "restart", "reboot", "write", "unmount", "detach", "obstruct", "clear", "repair"};
  static constexpr std::array wounds{"lose ledger of v", "garble ledger of v", "truncate record of v", "garble record of v",
                                     "mend record of v"};
  static constexpr std::array obstacles{"", " by a file", " by a symlink", " by a directory with content", ""};
  std::string text;
  if (step.kind == Step::Kind::calls) {
    for (const Call& call : step.calls) {
      text += (text.empty() ? "" : "\n      | ") + to_string(call);
    }
    if (step.crash) {
      text += std::string{step.power ? " ** power loss at " : " ** crash at "} + std::to_string(*step.crash) + ", then " +
              (step.reversed == 0 ? "repeated" : "reversed " + std::to_string(step.reversed));
    }
  } else {
    text = kinds.at(static_cast<std::size_t>(step.kind));
    text += step.kind == Step::Kind::detach || step.kind == Step::Kind::write ? " v" + std::to_string(step.volume) : "";
    text += step.path.empty() ? "" : " " + step.path;
    text += obstacles.at(static_cast<std::size_t>(step.obstacle));
  }
  for (const Wound& wound : step.wounds) {
    text += std::string{", "} + wounds.at(static_cast<std::size_t>(wound.kind)) + std::to_string(wound.volume);
  }
  return text;
}

std::string to_string(const Answer& answer) {
  std::string text = to_string(answer.code);
  text += answer.message.empty() ? "" : " \"" + answer.message + "\"";
  text += answer.id.empty() ? "" : " id " + answer.id;
  return text;
}

bool is_reader_only(int mode) { return mode == 2 || mode == 3; }

}  // namespace ordinald::testing
