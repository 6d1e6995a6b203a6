#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>

#include "tests/vm/guest.hpp"
#include "tests/vm/volume.hpp"

/// One volume's life as an orchestrator drives it, call after call, through power failures.
///
/// Threading: a lane is one thread's. Errors: Lost when something acknowledged is not so; PowerLost passes through, and leaves the volume
/// with the operation that was begun in `pending`.
namespace ordinald::testing {

/// The promise was broken.
struct Lost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct LaneCounts {
  std::atomic<std::uint64_t> acknowledged = 0;
  std::atomic<std::uint64_t> checked = 0;
};

class Lane {
 public:
  Lane(Guest& guest, LaneVolume& volume, LaneCounts& counts, std::uint64_t seed)
      : guest_(guest), volume_(volume), counts_(counts), random_(seed) {}

  /// After a boot: publish is refused before stage; the interrupted call is repeated, or reversed; the volume is staged and published
  /// again, or cleaned up; all that was durable is there.
  void recover();
  /// One random operation that fits the volume's state.
  void step();
  /// Unpublishes, unstages, deletes.
  void end();

 private:
  void create();
  void stage();
  void publish();
  void write();
  void grow();
  [[nodiscard]] bool may_grow() const;
  void unpublish();
  void unstage();
  void remove();

  /// As the kubelet does with what it finds in a pod's directory when it starts.
  void unpublish_what_came_back();
  void refuse_publish();
  void verify_files();
  void verify_uuid();
  std::int64_t total();

  /// Begins the operation; `done` takes that mark away.
  void begin(const std::string& operation);
  void done(const std::string& level);
  nlohmann::json call(const std::string& method, const nlohmann::json& request);
  [[noreturn]] void lost(const std::string& what) const;
  bool chance(int percent) { return std::uniform_int_distribution<int>(1, 100)(random_) <= percent; }
  bool block() const { return volume_.kind == "block"; }
  std::string staging() const { return staging_of(volume_); }
  std::string target() const { return target_of(volume_); }
  std::string file_path(const DurableFile& file) const { return block() ? target() : target() + "/" + file.name; }
  nlohmann::json capability() const;
  nlohmann::json publish_request() const;

  Guest& guest_;
  LaneVolume& volume_;
  LaneCounts& counts_;
  std::mt19937_64 random_;
};

}  // namespace ordinald::testing
