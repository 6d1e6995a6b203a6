#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "mount/crash_point.hpp"
#include "tests/support/rig.hpp"

/// A rig's agent that dies at the act of a test's choice, whichever of its processes does it. Only where tests have crash points
/// (ORDINALD_CRASH_POINTS).
namespace ordinald::testing {

class DeadlyAgent {
 public:
  explicit DeadlyAgent(Rig& rig) : rig_(rig) {
    const fs::path file = rig.root() / "crash-page";
    write_file(file, std::string(sizeof(mount::CrashPage), '\0'));
    const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    void* memory = ::mmap(nullptr, sizeof(mount::CrashPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    REQUIRE(memory != MAP_FAILED);
    page_ = static_cast<mount::CrashPage*>(memory);
    environment_ = {{"ORDINALD_CRASH_PAGE", file}};
  }
  DeadlyAgent(const DeadlyAgent&) = delete;
  DeadlyAgent& operator=(const DeadlyAgent&) = delete;
  ~DeadlyAgent() { ::munmap(page_, sizeof(mount::CrashPage)); }

  void start() { rig_.agent().start({}, environment_); }

  /// Does the call, with the agent killed at its n-th act, and starts the next agent; at what it died, or nothing where there were fewer
  /// acts and it was done. `again`: the next agent dies too, at that act from its start on, be it still starting or in what `recover` does.
  std::optional<std::string> killed_at(std::uint32_t act, const std::function<void()>& call, std::uint32_t again = 0) {
    arm(act);
    call();
    page_->at = 0;
    if (!dead()) {
      return std::nullopt;
    }
    bury();
    std::string died_at = page_->act;
    if (again == 0) {
      start();
      return died_at;
    }
    arm(again);
    try {
      start();
    } catch (const std::runtime_error&) {
      if (!dead()) {
        throw;
      }
      page_->at = 0;
      ++deaths_again_;
      start();
    }
    return died_at;
  }

  /// What the orchestrator does next; done again where the agent died in it once more.
  Outcome recover(const std::function<Outcome()>& call) {
    Outcome end = call();
    const bool died = page_->at != 0 && dead();
    page_->at = 0;
    if (died) {
      ++deaths_again_;
      bury();
      start();
      end = call();
    }
    return end;
  }

  /// How often an agent died that was recovering from another's death.
  [[nodiscard]] int deaths_again() const { return deaths_again_; }

 private:
  void arm(std::uint32_t act) {
    page_->act[0] = '\0';
    page_->at = page_->passed + act;
  }
  [[nodiscard]] bool dead() const { return page_->act[0] != '\0'; }
  void bury() {
    if (rig_.agent().running()) {
      rig_.agent().kill();
    }
  }

  Rig& rig_;
  mount::CrashPage* page_ = nullptr;
  std::map<std::string, std::string> environment_;
  int deaths_again_ = 0;
};

}  // namespace ordinald::testing
