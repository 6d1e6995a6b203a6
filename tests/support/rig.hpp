#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/agent_process.hpp"
#include "tests/support/csi_client.hpp"
#include "tests/support/leaks.hpp"
#include "tests/support/mount_namespace.hpp"
#include "tests/support/temp.hpp"

/// What a test of the whole agent stands on: an agent of its own with its directories, requests ready to be varied, and a way to look at
/// answers. The whole program is in a private mount namespace; each rig cleans up behind itself whatever happens.
namespace ordinald::testing {

namespace fs = std::filesystem;
namespace v1 = csi::v1;
using enum grpc::StatusCode;
using StringMap = std::map<std::string, std::string>;
using Settings = std::map<std::string, nlohmann::json>;

/// A call's end as a test compares it: `CHECK(outcome(reply) == NOT_FOUND)` shows code and message when it differs.
/// A refusal is held to what goes for all of them, too: it has a message, and no details.
struct Outcome {
  grpc::StatusCode code = UNKNOWN;
  std::string message;
  bool has_details = false;
  bool operator==(grpc::StatusCode other) const { return code == other && (code == OK || (!message.empty() && !has_details)); }
};
std::ostream& operator<<(std::ostream& out, const Outcome& outcome);

Outcome outcome(const grpc::Status& status);
template <class Response>
Outcome outcome(const Reply<Response>& reply) {
  return outcome(reply.status);
}

/// What the system answers to an attempt: 0, or an errno.
int try_write(const fs::path& file, std::string_view text = "x");
/// Writes into a block device without making anything; 0 or an errno.
int try_write_device(const fs::path& device);
/// Runs a program with nothing on its input; its exit status.
int run_tool(const std::vector<std::string>& words);

class Rig {
 public:
  /// Starts an agent; `settings` as AgentProcess takes them.
  explicit Rig(const Settings& settings = {}, bool start = true);

  AgentProcess& agent() { return agent_; }
  const fs::path& root() const { return temp_.path(); }
  fs::path pool() const { return agent_.pool(); }
  template <class Request>
  auto call(const Request& request, Timeout timeout = {}) {
    return agent_.client().call(request, timeout);
  }
  /// kill -9, and started again.
  void crash();

  /// A directory that the orchestrator made: `<root>/stage/<name>`.
  fs::path staging(const std::string& name) const;
  /// A target whose parent alone exists: `<root>/pods/<pod>/volume`.
  fs::path target(const std::string& pod) const;

  v1::CreateVolumeRequest create_request(const std::string& name, const v1::VolumeCapability& capability, std::int64_t size,
                                         const StringMap& parameters = {}) const;
  /// Creates it; answers its id. Fails the test where it isn't made.
  std::string create(const std::string& name, const v1::VolumeCapability& capability, std::int64_t size = 64 * mebi,
                     const StringMap& parameters = {});
  v1::NodeStageVolumeRequest stage_request(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging) const;
  v1::NodePublishVolumeRequest publish_request(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging,
                                               const fs::path& target) const;

  /// The node's calls in their plain form.
  Outcome stage(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging);
  Outcome unstage(const std::string& id, const fs::path& staging);
  Outcome publish(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging, const fs::path& target);
  Outcome unpublish(const std::string& id, const fs::path& target);
  Outcome remove(const std::string& id);
  /// The reasons that the node's health of the volume lists, in alphabetical order, with blanks between.
  std::string node_health(const std::string& id);
  std::string controller_health(const std::string& id);

  /// The image of a volume: the pool's only file that has the id in its name.
  fs::path image_of(const std::string& id) const;
  /// The record of a volume: the only file of `state/volumes` that has the id in its name.
  fs::path record_of(const std::string& id) const;

 private:
  TempDir temp_;
  AgentProcess agent_;
};

/// The smallest size that each filesystem is tested with.
std::int64_t small_size(const std::string& fs_type);

/// A volume that is created, staged and published: most tests begin here.
struct LiveVolume {
  std::string id;
  v1::VolumeCapability capability;
  fs::path staging;
  fs::path target;
};
LiveVolume bring_up(Rig& rig, const std::string& name, const v1::VolumeCapability& capability, std::int64_t size = 0);

/// Lays a copy-on-write /usr over the node's, for this mount namespace and what is started from it: there a test can change a program.
class WritableUsr {
 public:
  WritableUsr();
  WritableUsr(const WritableUsr&) = delete;
  WritableUsr& operator=(const WritableUsr&) = delete;
  ~WritableUsr();

 private:
  TempDir temp_;
};

/// Puts a gate before a program (beneath /usr, which must be a WritableUsr): whoever runs it waits at the gate until the test opens
/// it. That makes a call that is running a state that a test can hold.
class ToolGate {
 public:
  explicit ToolGate(const fs::path& program);
  ToolGate(const ToolGate&) = delete;
  ToolGate& operator=(const ToolGate&) = delete;
  /// Takes it away; who waits is let through.
  ~ToolGate();

  /// Waits until one more run of the program stands at the gate; its pid.
  pid_t wait_for_one();
  void let_one_through();
  /// How many have come to the gate until now.
  int runs();

 private:
  /// Takes the pids that have been written since; waits for one at most so long.
  bool take_arrivals(int timeout_ms);

  fs::path program_;
  fs::path directory_;
  int entered_ = -1;
  int gate_ = -1;
  std::string unread_;
  std::vector<pid_t> arrivals_;
  std::size_t awaited_ = 0;
};

}  // namespace ordinald::testing

template <>
struct Catch::StringMaker<grpc::StatusCode> {
  static std::string convert(grpc::StatusCode code);
};
