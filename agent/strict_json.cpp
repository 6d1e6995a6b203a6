#include "agent/strict_json.hpp"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace ordinald::agent {
namespace {

using mount::ErrorCode;
using mount::make_error;
using nlohmann::json;

constexpr std::size_t longest_found = 60;

bool is_word(std::string_view key) {
  const auto word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !key.empty() && key.size() <= longest_found && std::ranges::all_of(key, word);
}

/// `[json.exception.parse_error.101] parse error at line 1, column 2: …` is left from `line` on.
std::string without_prefix(std::string_view what) {
  constexpr std::string_view lead = "parse error at ";
  if (const auto at = what.find(lead); at != std::string_view::npos) {
    what.remove_prefix(at + lead.size());
  } else if (const auto bracket = what.find("] "); bracket != std::string_view::npos) {
    what.remove_prefix(bracket + 2);
  }
  return std::string{what};
}

/// Walks a document without building it, and stops at the first thing that isn't wanted.
class LimitGuard final : public nlohmann::json_sax<json> {
 public:
  explicit LimitGuard(const JsonLimits& limits) : limits_(limits) {}

  [[nodiscard]] const std::string& complaint() const { return complaint_; }

  bool null() override { return value(); }
  bool boolean(bool /*unused*/) override { return value(); }
  bool number_integer(number_integer_t /*unused*/) override { return value(); }
  bool number_unsigned(number_unsigned_t /*unused*/) override { return value(); }
  bool number_float(number_float_t /*unused*/, const string_t& /*unused*/) override { return value(); }
  bool string(string_t& /*unused*/) override { return value(); }
  bool binary(binary_t& /*unused*/) override { return value(); }
  bool start_object(std::size_t /*unused*/) override { return open(false); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t /*unused*/) override { return open(true); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Frame& frame = frames_.back();
    const auto [at, added] = frame.keys.insert(std::move(name));
    frame.key = &*at;
    if (!added) {
      complaint_ = path() + ": the key is given twice";
    }
    return added;
  }

  bool parse_error(std::size_t /*unused*/, const std::string& /*unused*/, const json::exception& error) override {
    complaint_ = "not valid JSON: " + without_prefix(error.what());
    return false;
  }

 private:
  /// A container that is open, and where in it we are.
  struct Frame {
    bool array = false;
    std::size_t index = 0;  ///< array: of the next element
    std::set<std::string> keys;
    const std::string* key = nullptr;  ///< object: the latest of `keys`
  };

  /// Of the element under way. Made only when it is needed: a document may have half a million of them.
  [[nodiscard]] std::string path() const {
    std::string text;
    for (const Frame& frame : frames_) {
      if (frame.array) {
        text.append("[").append(std::to_string(frame.index)).append("]");
      } else {
        text = key_path(text, *frame.key);
      }
    }
    return text;
  }

  bool value() {
    if (!frames_.empty()) {
      ++frames_.back().index;
    }
    return true;
  }

  bool open(bool array) {
    if (frames_.size() >= limits_.depth) {
      complaint_ = "nested deeper than " + std::to_string(limits_.depth) + " levels";
      return false;
    }
    frames_.push_back(Frame{.array = array, .index = 0, .keys = {}, .key = nullptr});
    return true;
  }

  bool close() {
    frames_.pop_back();
    return value();
  }

  JsonLimits limits_;
  std::vector<Frame> frames_;
  std::string complaint_;
};

}  // namespace

mount::Result<json> parse_strict_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    return make_error(ErrorCode::invalid_argument, "longer than " + std::to_string(limits.bytes) + " bytes");
  }
  LimitGuard guard{limits};
  if (!json::sax_parse(text, &guard, json::input_format_t::json, true, limits.comments)) {
    return make_error(ErrorCode::invalid_argument, guard.complaint());
  }
  json document = json::parse(text, nullptr, false, limits.comments);
  if (document.is_discarded()) {
    return make_error(ErrorCode::invalid_argument, "not valid JSON");
  }
  return document;
}

std::string key_path(std::string_view parent, std::string_view key) {
  std::string path{parent};
  if (is_word(key)) {
    if (!path.empty()) {
      path += '.';
    }
    return path.append(key);
  }
  return path + "[" + describe(json(std::string{key})) + "]";
}

std::string describe(const json& value) {
  if (value.is_object()) {
    return "an object";
  }
  if (value.is_array()) {
    return "an array";
  }
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > longest_found) {
    text.resize(longest_found - 4);
    text += value.is_string() ? "...\"" : "...";
  }
  return text;
}

}  // namespace ordinald::agent
