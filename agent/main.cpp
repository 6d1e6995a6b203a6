#include <malloc.h>
#include <sys/prctl.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>

#include "agent/agent.hpp"
#include "agent/instance_lock.hpp"
#include "agent/logging.hpp"
#include "agent/options.hpp"
#include "mount/zygote.hpp"

/// The daemon `ordinald`. Exit status: 0 it ended as asked, 1 it could not start or go on, 2 the command line or the configuration is
/// wrong.
namespace {

using namespace ordinald;

constexpr int ended = 0;
constexpr int failed = 1;
constexpr int misconfigured = 2;

int complain(const mount::Error& error, int status) {
  std::fprintf(stderr, "ordinald: %s\n", agent::log_safe(error.message, agent::LogFormat::text).c_str());
  return status;
}

/// gRPC reads them when it is first used, and then tells of each byte of a request, secrets and all: they are taken away before. Which
/// there were, for people; empty: none.
std::string take_away_grpc_tracing() {
  std::string found;
  for (const char* name : {"GRPC_TRACE", "GRPC_VERBOSITY"}) {
    if (std::getenv(name) != nullptr) {  // NOLINT(concurrency-mt-unsafe): there is no other thread yet
      found += (found.empty() ? "" : " and ") + std::string{name};
      ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
    }
  }
  return found;
}

int run(int argc, char** argv) {
  const auto options = agent::parse_options(argc, argv);
  if (!options) {
    return complain(options.error(), misconfigured);
  }
  if (!options.value().print.empty()) {
    std::fputs(options.value().print.c_str(), stdout);
    return ended;
  }
  const auto config = agent::load_config(options.value(), agent::surroundings());
  if (!config) {
    return complain(config.error(), misconfigured);
  }
  if (options.value().check_config) {
    std::fputs(agent::to_json(config.value()).c_str(), stdout);
    return ended;
  }

  const std::string ignored = take_away_grpc_tracing();
  if (const auto made = agent::make_private_directory(config.value().run_dir); !made) {
    return complain(made.error(), failed);
  }
  // Before any thread, lock or socket: the zygote inherits what there is.
  auto zygote = mount::Zygote::start(config.value().run_dir);
  if (!zygote) {
    return complain(zygote.error(), failed);
  }
  std::signal(SIGHUP, SIG_IGN);   // there is nothing to reload, and a terminal that goes away takes no volume with it
  std::signal(SIGPIPE, SIG_IGN);  // a reader of our log that went away, likewise
  ::mallopt(M_ARENA_MAX, 2);      // an arena for each of hundreds of threads would cost more than waiting for one another does

  const auto log = agent::make_logger(config.value().log_level, config.value().log_format);
  if (!ignored.empty()) {
    log->warn("{} of the environment: ignored, since what gRPC would write then has the secrets of requests in it", ignored);
  }
  auto agent = agent::Agent::start(config.value(), std::move(zygote).value(), log);
  if (!agent) {
    log->error("can't start: {}", agent.error().message);
    // What only the directories themselves can tell of the configuration: two that are one.
    return agent.error().code == mount::ErrorCode::invalid_argument ? misconfigured : failed;
  }
  return agent.value()->run();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ordinald: a bug: %s\n", error.what());
  } catch (...) {
    std::fputs("ordinald: a bug: an exception of an unknown kind\n", stderr);
  }
  return failed;
}
