#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mount/result.hpp"

/// What ordinalctl asks of systemd: the state of units, jobs on them, their last lines. systemd does the supervising.
///
/// A seam: tests have a fake with a clock of its own. Single-threaded; calls block. Errors: unavailable: systemd does not answer;
/// not_found: no such unit; failed_precondition: no systemd here; internal.
namespace ordinald::ctl {

struct UnitState {
  std::string load{};    ///< `loaded`, `not-found`, `masked` …
  std::string active{};  ///< `active`, `activating`, `inactive`, `failed` …
  std::string sub{};
  std::string result{};                       ///< of the last run: `success`, `exit-code`, `timeout` …
  std::int32_t exit_status = 0;               ///< of the main process, the last time that it ended
  std::chrono::microseconds active_since{0};  ///< CLOCK_MONOTONIC; 0: never
  std::string fragment{};                     ///< its unit file
  std::vector<std::string> drop_ins{};
};

enum class Job : std::uint8_t { start, stop, restart };

inline constexpr const char* still_running = "running";

class ServiceManager {
 public:
  using Clock = std::chrono::microseconds;  ///< CLOCK_MONOTONIC
  /// Called now and then while a job runs.
  using Progress = std::function<void()>;

  ServiceManager() = default;
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;
  virtual ~ServiceManager() = default;

  /// Reads all unit files again (the generators run).
  virtual mount::Result<void> reload() = 0;
  /// Of a unit that there isn't: load `not-found`.
  virtual mount::Result<UnitState> state(const std::string& unit) = 0;
  /// Has systemd do it and waits: the job's result as systemd names it (`done`, `failed`, `dependency`, `timeout`, `canceled` …), or
  /// `still_running` when time is up, and systemd goes on with it.
  virtual mount::Result<std::string> run(Job job, const std::string& unit, std::chrono::seconds timeout, const Progress& progress) = 0;
  /// The last lines of its journal, oldest first; none where there is no journal.
  virtual std::vector<std::string> last_lines(const std::string& unit, std::size_t count) = 0;
  [[nodiscard]] virtual Clock now() const = 0;
  virtual void pause(std::chrono::milliseconds time) = 0;
};

/// Whether systemd manages this machine (sd_booted(3)).
bool has_systemd();

/// To the system's manager, by its own socket: as root, no message bus needed.
mount::Result<std::unique_ptr<ServiceManager>> connect_service_manager();

}  // namespace ordinald::ctl
