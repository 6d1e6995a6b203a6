#include "agent/ctl/complete.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/text.hpp"
#include "agent/ctl/views.hpp"

namespace ordinald::ctl {
namespace {

constexpr std::chrono::seconds answer_patience{2};

/// What is before the word to complete.
struct Line {
  CLI::App* app = nullptr;                ///< the command
  std::vector<CLI::App*> path;            ///< from the program to it: whose options may follow
  CLI::Option* awaited = nullptr;         ///< the option whose value the word is
  std::vector<std::string> positionals;   ///< of the command, until now
  std::vector<std::string> global_words;  ///< options of the program, with their values
};

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

CLI::Option* option_named(const Line& line, const std::string& word) {
  for (CLI::App* app : line.path) {
    for (CLI::Option* option : app->get_options()) {
      if (option->nonpositional() && option->check_name(word)) {
        return option;
      }
    }
  }
  return nullptr;
}

CLI::App* subcommand_named(CLI::App& app, const std::string& word) {
  const auto found = app.get_subcommands([&](CLI::App* command) { return command->get_name() == word; });
  return found.empty() ? nullptr : found.front();
}

Line read_line(CLI::App& app, const std::vector<std::string>& words) {
  Line line;
  line.app = &app;
  line.path = {&app};
  bool is_global = false;
  for (const std::string& word : words) {
    if (line.awaited != nullptr) {
      if (is_global) {
        line.global_words.push_back(word);
      }
      line.awaited = nullptr;
    } else if (word.starts_with("-")) {
      const std::size_t equals = word.find('=');
      CLI::Option* option = option_named(line, word.substr(0, equals));
      is_global = option != nullptr && std::ranges::count(app.get_options(), option) > 0;
      if (option == nullptr || is_flag(*option)) {
        continue;  // unknown, or complete by itself
      }
      if (is_global) {
        line.global_words.push_back(word);
      }
      line.awaited = equals == std::string::npos ? option : nullptr;
    } else if (CLI::App* command = line.positionals.empty() ? subcommand_named(*line.app, word) : nullptr; command != nullptr) {
      line.app = command;
      line.path.push_back(command);
    } else {
      line.positionals.push_back(word);
    }
  }
  return line;
}

/// Sets the program's options as the line has them, and as the environment does.
void take_globals(CLI::App& app, std::vector<std::string> words) {
  app.require_subcommand(0);
  std::ranges::reverse(words);  // as CLI11 takes them
  try {
    app.parse(words);
  } catch (const CLI::Error&) {
    // A half-typed line: the defaults do.
  }
}

class Values {
 public:
  Values(Session& session, const Line& line, std::string typed) : session_(session), line_(line), typed_(std::move(typed)) {}

  /// The values of an option or argument by its type name, which a set of values follows in CLI11's own way: `FORMAT:{text,json}`.
  Completion of(const CLI::Option& option) {
    const std::string type = option.get_type_name();
    const std::string word = type.substr(0, type.find_first_of(":( "));
    if (const std::size_t open = type.find('{'); open != std::string::npos) {
      listed(type.substr(open + 1, type.find('}', open) - open - 1));
    } else if (word == "VOLUME") {
      volumes();
    } else if (word == "CLAIM") {
      claims();
    } else if (word == "POOL") {
      pools();
    } else if (word == "HOLDER") {
      holders();
    } else if (word == "SET" || word == "ORDINAL") {
      sets(word == "ORDINAL");
    } else if (word == "FILE" || word == "DEVICE") {
      completion_.paths = Completion::Paths::files;
    } else if (word == "DIR") {
      completion_.paths = Completion::Paths::directories;
    }
    return std::move(completion_);
  }

 private:
  void add(const std::string& word, const std::string& what) {
    if (!word.empty() && word.starts_with(typed_)) {
      completion_.candidates.push_back({word, what});
    }
  }

  void listed(std::string_view words) {
    while (!words.empty()) {
      const std::size_t end = std::min(words.find(','), words.size());
      add(std::string{words.substr(0, end)}, "");
      words.remove_prefix(std::min(end + 1, words.size()));
    }
  }

  nlohmann::json ask(const std::string& target) {
    const auto answer = AdminClient{session_.admin_socket(), answer_patience}.get(target);
    return answer ? answer.value() : nlohmann::json::object();
  }

  void volumes() {
    const nlohmann::json answer = ask("/v1/volumes");
    for (const nlohmann::json& volume : list_at(answer, "volumes")) {
      const std::string claim = text_at(volume, "claim");
      add(text_at(volume, "id"), claim.empty() ? text_at(volume, "state") : claim + ", " + text_at(volume, "state"));
      if (!typed_.empty()) {
        add(claim, text_at(volume, "id"));
      }
    }
  }

  void claims() {
    const nlohmann::json answer = ask("/v1/volumes");
    for (const nlohmann::json& volume : list_at(answer, "volumes")) {
      add(text_at(volume, "claim"), "of " + text_at(volume, "id"));
    }
  }

  void pools() {
    const nlohmann::json answer = ask("/v1/pools");
    for (const nlohmann::json& pool : list_at(answer, "pools")) {
      add(text_at(pool, "name"), size_text(number_at(pool, "available")) + " free");
    }
  }

  /// Of the volume that the line names, or of all.
  void holders() {
    nlohmann::json volumes = nlohmann::json::array();
    if (!line_.positionals.empty()) {
      volumes.push_back(ask(volume_path(line_.positionals.front())));
    } else {
      const nlohmann::json answer = ask("/v1/volumes");
      volumes = list_at(answer, "volumes");
    }
    for (const nlohmann::json& volume : volumes) {
      for (const nlohmann::json& publication : list_at(volume, "publications")) {
        const auto& holder = object_at(publication, "holder");
        if (const std::string name = text_at(holder, "name"); !name.empty()) {
          add(text_at(holder, "namespace") + "/" + name, text_at(publication, "target"));
        }
      }
    }
  }

  void sets(bool with_ordinals) {
    const auto found = load_claim_sets(session_.claims_dir());
    if (!found) {
      return;
    }
    for (const ClaimSet& set : found.value()) {
      if (!with_ordinals) {
        add(set.name, counted(set.replicas, "replica"));
        continue;
      }
      for (const std::int64_t ordinal : ordinals(set)) {
        add(ordinal_name(set, ordinal), unit_of(set, ordinal));
      }
    }
  }

  Session& session_;
  const Line& line_;
  std::string typed_;
  Completion completion_;
};

Completion options_of(const Line& line, const std::string& typed) {
  Completion completion;
  for (auto app = line.path.rbegin(); app != line.path.rend(); ++app) {
    for (const CLI::Option* option : (*app)->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        const std::string word = "--" + name;
        const bool is_new = std::ranges::count(completion.candidates, word, &Candidate::word) == 0;
        if (is_new && word.starts_with(typed) && !option->get_group().empty()) {
          completion.candidates.push_back({word, option->get_description()});
        }
      }
    }
  }
  return completion;
}

Completion commands_of(const CLI::App& app, const std::string& typed) {
  Completion completion;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name().starts_with(typed)) {
      completion.candidates.push_back({command->get_name(), command->get_description()});
    }
  }
  return completion;
}

/// The argument that comes next; the last one takes all that follow where it may.
const CLI::Option* next_positional(const Line& line) {
  std::size_t before = 0;
  for (const CLI::Option* option : line.app->get_options()) {
    if (!option->get_positional()) {
      continue;
    }
    before += static_cast<std::size_t>(std::max(option->get_items_expected_max(), 1));
    if (line.positionals.size() < before) {
      return option;
    }
  }
  return nullptr;
}

}  // namespace

Completion complete(CLI::App& app, Session& session, std::vector<std::string> words) {
  std::string typed;
  if (!words.empty()) {
    typed = std::move(words.back());
    words.pop_back();
  }
  Line line = read_line(app, words);
  take_globals(app, line.global_words);

  // `--output=js`: candidates are whole words, the option before them too.
  const std::size_t equals = typed.starts_with("--") ? typed.find('=') : std::string::npos;
  if (line.awaited == nullptr && equals != std::string::npos) {
    const CLI::Option* option = option_named(line, typed.substr(0, equals));
    Completion completion = option == nullptr ? Completion{} : Values{session, line, typed.substr(equals + 1)}.of(*option);
    for (Candidate& candidate : completion.candidates) {
      candidate.word.insert(0, typed, 0, equals + 1);
    }
    return completion;
  }
  if (line.awaited != nullptr) {
    return Values{session, line, typed}.of(*line.awaited);
  }
  if (typed.starts_with("-")) {
    return options_of(line, typed);
  }
  const bool has_commands = !line.app->get_subcommands([](const CLI::App*) { return true; }).empty();
  if (has_commands && line.positionals.empty()) {
    return commands_of(*line.app, typed);
  }
  const CLI::Option* argument = next_positional(line);
  return argument == nullptr ? Completion{} : Values{session, line, typed}.of(*argument);
}

std::string to_lines(const Completion& completion) {
  std::string lines;
  for (const Candidate& candidate : completion.candidates) {
    lines += harmless(candidate.word) + "\t" + harmless(candidate.what) + "\n";
  }
  switch (completion.paths) {
    case Completion::Paths::none:
      break;
    case Completion::Paths::files:
      lines += ":files\n";
      break;
    case Completion::Paths::directories:
      lines += ":directories\n";
      break;
  }
  return lines;
}

}  // namespace ordinald::ctl
