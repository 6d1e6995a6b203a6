#include <sys/stat.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <clocale>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "agent/ctl/commands.hpp"
#include "agent/ctl/complete.hpp"
#include "agent/ctl/session.hpp"
#include "agent/ctl/text.hpp"

/// `ordinalctl`, the agent's tool for people; its exit statuses are `Exit`'s (failure.hpp) and in ordinalctl(8).
namespace {

using namespace ordinald::ctl;

int run(int argc, char** argv) {
  ::umask(022);                         // services enter the directories above their volumes; what is root's alone gets its mode by name
  std::setlocale(LC_CTYPE, "C.UTF-8");  // for the width of characters alone
  CLI::App app{"ordinalctl shows and steers ordinald, the storage agent of this node", "ordinalctl"};
  Session session{app};
  add_commands(app, session);
  if (argc > 1 && std::string_view{argv[1]} == "__complete") {
    std::fputs(to_lines(complete(app, session, {argv + 2, argv + argc})).c_str(), stdout);
    return static_cast<int>(Exit::done);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
  } catch (const CLI::CallForVersion&) {
    std::fputs((app.version() + "\n").c_str(), stdout);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "ordinalctl: %s (--help lists the commands, and `ordinalctl COMMAND --help` the options of one)\n",
                 harmless(error.what()).c_str());
    return static_cast<int>(Exit::usage);
  }
  return session.exit_status();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ordinalctl: a bug: %s\n", harmless(error.what()).c_str());
  } catch (...) {
    std::fputs("ordinalctl: a bug: an exception of an unknown kind\n", stderr);
  }
  return static_cast<int>(Exit::failed);
}
