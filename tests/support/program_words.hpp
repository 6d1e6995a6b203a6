#pragma once

#include <string>
#include <utility>
#include <vector>

namespace ordinald::testing {

/// What execve(2) takes, made before the fork: between fork and exec a child may not allocate. Another thread of the parent, such as one of
/// gRPC's, may have had the allocator's lock at the fork, and then nobody ever lets it go in the child, which hangs and prints nothing.
class ProgramWords {
 public:
  /// `environment`: each `NAME=value`.
  ProgramWords(std::vector<std::string> argv, std::vector<std::string> environment)
      : argv_(std::move(argv)), environment_(std::move(environment)), words_(pointers(argv_)), variables_(pointers(environment_)) {}
  ProgramWords(const ProgramWords&) = delete;
  ProgramWords& operator=(const ProgramWords&) = delete;

  [[nodiscard]] char* const* argv() const { return words_.data(); }
  [[nodiscard]] char* const* environment() const { return variables_.data(); }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    pointers.reserve(texts.size() + 1);
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
  }

  std::vector<std::string> argv_;
  std::vector<std::string> environment_;
  std::vector<char*> words_;
  std::vector<char*> variables_;
};

}  // namespace ordinald::testing
