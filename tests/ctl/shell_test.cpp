// What stands beside the program: manual pages and completion, held against the program's own --help so that they can't fall behind.
#include <sys/stat.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/complete.hpp"
#include "tests/ctl/ctl_program.hpp"
#include "tests/ctl/fake_agent.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace {

using Catch::Contains;
using nlohmann::json;
namespace fs = std::filesystem;

const fs::path packaging = fs::path{ORDINALD_SOURCE_DIR} / "packaging";

/// The commands and their options, as the program has them.
struct Program {
  CLI::App app{"", "ordinalctl"};
  ctl::Session session{app};
  Program() { ctl::add_commands(app, session); }
  std::vector<CLI::App*> commands() {
    return app.get_subcommands([](CLI::App*) { return true; });
  }
};

std::vector<std::string> long_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  }
  return names;
}

/// The part of a page from an item or section on to the next one of its kind.
std::string part_of(const std::string& page, const std::string& begin, const std::string& next) {
  const std::size_t at = page.find(begin);
  if (at == std::string::npos) return "";
  return page.substr(at, page.find(next, at + begin.size()) - at);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream{text};
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// A directory with a program `ordinalctl` that completes as the real one does, and otherwise says what it was called with.
struct Shell {
  TempDir temp{"ctl"};
  FakeAgent agent{(temp.path() / "a.sock").string()};
  Environment environment{{"PATH", temp.path().string() + ":/usr/bin:/bin"},
                          {"ORDINALD_ADMIN_SOCKET", agent.path()},
                          {"HOME", temp.path().string()},
                          {"INPUTRC", "/dev/null"},
                          {"TERM", "dumb"},
                          {"LC_ALL", "C.UTF-8"}};
  Shell() {
    const fs::path program = temp.path() / "ordinalctl";
    write_file(program, "#!/bin/bash\n[ \"$1\" = __complete ] && exec " ORDINALCTL_PROGRAM " \"$@\"\necho \"RAN:$*.\"\n");
    ::chmod(program.c_str(), 0755);
    fs::create_directory(temp.path() / "claims");
    write_file(temp.path() / "claims/db.json",
               R"({"set": "db", "replicas": 2, "volumeClaimTemplates": [{"name": "data", "size": "1GiB"}]})");
    write_file(temp.path() / "some-file", "");
    const auto volume = [](const std::string& id, const std::string& claim, const std::string& pod) {
      return json{{"id", id},
                  {"claim", claim},
                  {"state", "published"},
                  {"publications", {{{"target", "/pods/1"}, {"holder", {{"namespace", "prod"}, {"name", pod}}}}}}};
    };
    const json first = volume("data-db-0-0a1b2c3d", "prod/data-db-0", "db-0");
    const json second = volume("cache-01234567", "", "web-0");
    agent.answer("GET /v1/volumes", {{"volumes", {first, second}}});
    agent.answer("GET /v1/volumes/data-db-0-0a1b2c3d", first);
    agent.answer("GET /v1/pools", {{"pools", {{{"name", "default"}}, {{"name", "disks"}}}}});
  }
  std::string claims() const { return (temp.path() / "claims").string(); }
};

}  // namespace

TEST_CASE("man: the pages are clean") {
  for (const std::string page : {"ordinald.8", "ordinalctl.8"}) {
    const std::string file = packaging / "man" / page;
    for (const std::string& line : lines_of(run_program({"/usr/bin/mandoc", "-Tlint", "-W", "style", file}).out)) {
      INFO(line);
      CHECK(line.find("referenced manual not found") != std::string::npos);  // it looks at what is installed here
    }
    const Ran man =
        run_program({"/usr/bin/man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file}, {{"MANROFFSEQ", ""}, {"LC_ALL", "C.UTF-8"}});
    INFO(man.err);
    CHECK(man.status == 0);
    CHECK(man.err.empty());
  }
}

TEST_CASE("man: every command and option of ordinalctl is in its page") {
  const std::string page = read_file(packaging / "man/ordinalctl.8");
  Program program;
  const std::string options = part_of(page, ".Ss Options", ".Ss ");
  for (const std::string& name : long_names(program.app)) {
    INFO("option --" << name << ": add `.It Fl -" << name << "` to packaging/man/ordinalctl.8, under Options");
    CHECK(std::regex_search(options, std::regex{"\\.It .*Fl -" + name + "\\b"}));
  }
  CHECK(program.commands().size() >= 10);
  for (const CLI::App* command : program.commands()) {
    const std::string item = part_of(page, ".It Cm " + command->get_name(), "\n.It Cm ");
    INFO("command " << command->get_name() << ": add `.It Cm " << command->get_name() << "` to packaging/man/ordinalctl.8");
    REQUIRE_FALSE(item.empty());
    for (const std::string& name : long_names(*command)) {
      INFO("its option --" << name << ": add `Fl -" << name << "` there");
      CHECK((name == "help" || std::regex_search(item, std::regex{"Fl -" + name + "\\b"})));
    }
  }
  const std::string statuses = part_of(page, ".Sh EXIT STATUS", ".Sh ");
  for (int status = 0; status <= static_cast<int>(ctl::Exit::unhealthy); ++status) {
    CHECK_THAT(statuses, Contains(".It " + std::to_string(status) + "\n"));
  }
}

TEST_CASE("man: every option and configuration key of ordinald is in its page") {
  const std::string page = read_file(packaging / "man/ordinald.8");
  const std::string help = run_program({ORDINALD_PROGRAM, "--help"}).out;
  const std::regex option{"--([a-z-]+)"};
  std::set<std::string> names;
  for (auto match = std::sregex_iterator{help.begin(), help.end(), option}; match != std::sregex_iterator{}; ++match)
    names.insert((*match)[1]);
  CHECK(names.size() >= 9);
  for (const std::string& name : names) {
    INFO("option --" << name << " is missing in packaging/man/ordinald.8");
    CHECK(std::regex_search(page, std::regex{"\\.It .*Fl -" + name + "\\b"}));
  }
  const json config = run_program({ORDINALD_PROGRAM, "--check-config"}).json();
  REQUIRE(config.is_object());
  for (const auto& [key, value] : config.items()) {
    INFO("configuration key " << key << " is missing in packaging/man/ordinald.8");
    CHECK_THAT(page, Contains(".It Cm " + key + "\n"));
  }
  const std::string pools = part_of(page, ".It Cm pools\n", ".El");
  for (const auto& [key, value] : config.at("pools").at(0).items()) {
    INFO("key " << key << " of a pool is missing in packaging/man/ordinald.8");
    CHECK_THAT(pools, Contains(".Cm " + key));
  }
}

TEST_CASE("completion: every command and option is offered, with what it is") {
  Program program;
  const auto offered = [](std::vector<std::string> words) {
    words.insert(words.begin(), {ORDINALCTL_PROGRAM, "__complete"});
    std::map<std::string, std::string> candidates;
    for (const std::string& line : lines_of(run_program(words).out)) {
      const std::size_t tab = line.find('\t');
      REQUIRE(tab != std::string::npos);
      candidates[line.substr(0, tab)] = line.substr(tab + 1);
    }
    return candidates;
  };
  const auto commands = offered({""});
  CHECK(commands.size() == program.commands().size());
  for (const CLI::App* command : program.commands()) {
    INFO(command->get_name());
    CHECK(commands.at(command->get_name()) == command->get_description());
    const auto options = offered({command->get_name(), "--"});
    for (const CLI::App* source : {static_cast<const CLI::App*>(&program.app), command}) {
      for (const std::string& name : long_names(*source)) CHECK_FALSE(options.at("--" + name).empty());
    }
    // What has values can be completed: its type says what it is.
    for (const CLI::Option* option : command->get_options()) {
      if (option->get_items_expected_max() == 0) continue;
      const std::string type = option->get_type_name();
      INFO(option->get_name() << " has the type name " << type << "; see commands.hpp");
      CHECK(std::regex_match(
          type,
          std::regex{"(VOLUME|CLAIM|POOL|HOLDER|SET|ORDINAL|FILE|DIR|DEVICE|NAME|UNIT|SECONDS|N|NUMBER|SIZE)([:( ].*)?|.*\\{.*\\}.*"}));
    }
  }
}

TEST_CASE("completion: what the agent and the claim files know") {
  const Shell shell;
  Program program;
  const auto words = [&](std::vector<std::string> line) {
    Program fresh;
    line.insert(line.begin(), {"--claims-dir", shell.claims(), "--admin-socket", shell.agent.path()});
    std::string all;
    const ctl::Completion completion = ctl::complete(fresh.app, fresh.session, line);
    for (const ctl::Candidate& candidate : completion.candidates) all += (all.empty() ? "" : " ") + candidate.word;
    if (completion.paths == ctl::Completion::Paths::files) all += ":files";
    if (completion.paths == ctl::Completion::Paths::directories) all += ":directories";
    return all;
  };
  CHECK(words({"show", ""}) == "data-db-0-0a1b2c3d cache-01234567");
  CHECK(words({"show", "c"}) == "cache-01234567");
  CHECK(words({"show", "prod/"}) == "prod/data-db-0");
  CHECK(words({"show", "cache-01234567", ""}).empty());
  CHECK(words({"rebind", "cache-01234567", ""}) == "prod/data-db-0");
  CHECK(words({"release", "data-db-0-0a1b2c3d", "--holder", ""}) == "prod/db-0");
  CHECK(words({"release", "--holder", ""}) == "prod/db-0 prod/web-0");
  CHECK(words({"release", "--holder=prod/w"}) == "--holder=prod/web-0");
  CHECK(words({"release", "--target", ""}) == ":directories");
  CHECK(words({"adopt", "--pool", "d"}) == "default disks");
  CHECK(words({"adopt", ""}) == ":files");
  CHECK(words({"volumes", "--output", ""}) == "text json");
  CHECK(words({"--output", "json", "sho"}) == "show");
  CHECK(words({"--nonsense", "sho"}) == "show");
  CHECK(words({"nonsense", ""}).empty());
  // An agent that is not there, and claim files that are not: nothing, and no noise.
  const Ran none = run_program({ORDINALCTL_PROGRAM, "__complete", "--admin-socket", "/nowhere", "show", ""});
  CHECK(none.status == 0);
  CHECK((none.out + none.err).empty());
}

TEST_CASE("completion: in bash") {
  const Shell shell;
  const std::string script = packaging / "completion/ordinalctl.bash";
  const std::string typed = "cd " + shell.temp.path().string() + "; . " + script +
                            "\n"
                            "ordinalctl sta\t\n"
                            "ordinalctl --outp\tjs\tshow data\t\n"
                            "ordinalctl --output=js\tpoo\t\n"
                            "ordinalctl adopt some\t--po\tdi\t\n"
                            "ordinalctl release data\t--hold\tprod/\t\n"
                            "exit\n";
  const Ran ran = run_on_terminal({"/bin/bash", "--norc", "--noprofile", "-i"}, 200, shell.environment, typed);
  INFO(ran.out);
  CHECK_THAT(ran.out, Contains("RAN:status."));
  CHECK_THAT(ran.out, Contains("RAN:--output json show data-db-0-0a1b2c3d."));
  CHECK_THAT(ran.out, Contains("RAN:--output=json pools."));
  CHECK_THAT(ran.out, Contains("RAN:adopt some-file --pool disks."));
  CHECK_THAT(ran.out, Contains("RAN:release data-db-0-0a1b2c3d --holder prod/db-0."));
}

TEST_CASE("completion: in zsh") {
  const Shell shell;
  const std::string typed = "cd " + shell.temp.path().string() + "; fpath=(" + (packaging / "completion").string() +
                            " $fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' insert-tab false\n"
                            "ordinalctl sta\t\n"
                            "ordinalctl --outp\tjs\tshow data\t\n"
                            "ordinalctl adopt some\t--po\tdi\t\n"
                            "ordinalctl release data\t--hold\tprod/\t\n"
                            "exit\n";
  const Ran ran = run_on_terminal({"/usr/bin/zsh", "-f", "-i"}, 200, shell.environment, typed);
  INFO(ran.out);
  CHECK_THAT(ran.out, Contains("RAN:status."));
  CHECK_THAT(ran.out, Contains("RAN:--output json show data-db-0-0a1b2c3d."));
  CHECK_THAT(ran.out, Contains("RAN:adopt some-file --pool disks."));
  CHECK_THAT(ran.out, Contains("RAN:release data-db-0-0a1b2c3d --holder prod/db-0."));
}

}  // namespace ordinald::testing
