#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/ctl/csi_client.hpp"
#include "tests/claims/agent_handle.hpp"
#include "tests/support/temp.hpp"

/// What a test of claims stands on: a daemon of its own, a directory of claim files, and ordinalctl run as a program. Volumes are mounted
/// beneath /srv, which is a tmpfs of this process's mount namespace (main.cpp), where any user may get at them.
///
/// Threading: one object, one thread. Errors: throws std::runtime_error. Everything ends with it, also when the test fails.
namespace ordinald::testing {

namespace fs = std::filesystem;

/// A program's end.
struct Ended {
  int status = -1;  ///< exit status, or 1000 + the signal
  std::string out;
  std::string err;
};

/// A program that runs, with what it prints. Its process group is killed at the end.
class Running {
 public:
  struct User {
    uid_t uid = 0;
    gid_t gid = 0;
  };
  Running(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment, User user);
  Running(Running&& other) noexcept;
  Running& operator=(Running&&) = delete;
  ~Running();

  pid_t pid() const { return pid_; }
  void kill();
  /// Reads until it has printed that, on either stream; false: it ended, or a minute passed.
  bool prints(const std::string& text);
  /// Waits for its end, a minute at most.
  Ended wait();

 private:
  bool read_more(int timeout_ms);

  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  Ended ended_;
};

class ClaimBed {
 public:
  explicit ClaimBed(const nlohmann::json& settings = nlohmann::json::object());
  ClaimBed(const ClaimBed&) = delete;
  ClaimBed& operator=(const ClaimBed&) = delete;
  ~ClaimBed();

  const fs::path& root() const { return temp_.path(); }
  fs::path claims_dir() const { return root() / "claims"; }
  fs::path run_dir() const { return root() / "claims-run"; }
  fs::path hosts() const { return root() / "hosts"; }
  fs::path set_file(const std::string& set) const { return claims_dir() / (set + ".json"); }

  /// A set with one template `data` of 64 MiB, laid over by `keys` (RFC 7386).
  nlohmann::json set(const std::string& name, const nlohmann::json& keys = nlohmann::json::object()) const;
  /// Written into its place.
  void install(const std::string& name, const nlohmann::json& keys = nlohmann::json::object());

  Running start(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment = {});
  Ended ctl(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment = {});

  void start_agent();
  void kill_agent();
  /// Power off and on, as far as that goes without a machine of one's own: mounts, loop devices and what lies beneath /run are gone.
  void reboot();
  ctl::CsiClient& client() { return client_; }
  /// By claim; all of them are of namespace host.
  std::map<std::string, csi::Volume> volumes();

 private:
  TempDir temp_;
  std::unique_ptr<AgentHandle> agent_;
  ctl::CsiClient client_;
};

/// Whether something is mounted just there.
bool is_mounted(const fs::path& path);

}  // namespace ordinald::testing
