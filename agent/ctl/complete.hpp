#pragma once

#include <CLI/App.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "agent/ctl/session.hpp"

/// What the shells' completion asks for, as the hidden `ordinalctl __complete WORD…`.
///
/// It comes from the commands themselves, so that it can't fall behind them: an option's or argument's type name says what its values are
/// (commands.hpp). What the agent or the claim files know is asked for with a short timeout; where they don't answer there is nothing to
/// complete, and no error. Single-threaded.
namespace ordinald::ctl {

struct Candidate {
  std::string word;
  std::string what;  ///< for a person; may be empty
};

struct Completion {
  std::vector<Candidate> candidates;
  enum class Paths : unsigned char { none, files, directories } paths = Paths::none;  ///< the shell completes these itself
};

/// `words`: what stands after the program's name, the last being the one to complete, as far as it is typed. Parses the global options
/// among them into the session.
Completion complete(CLI::App& app, Session& session, std::vector<std::string> words);

/// One candidate a line, `word<TAB>what`, and `:files` or `:directories`, as packaging/completion reads it.
std::string to_lines(const Completion& completion);

}  // namespace ordinald::ctl
