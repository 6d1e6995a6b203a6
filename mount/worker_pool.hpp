#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mount/channel.hpp"
#include "mount/kernel.hpp"
#include "mount/left_behind.hpp"
#include "mount/zygote.hpp"

namespace ordinald::mount {

/// A verb that was not answered in time, and has not been since.
struct Hang {
  std::string volume;
  std::string what;  ///< the verb and its device or path
  bool unmounts = false;
  pid_t pid = 0;  ///< of the worker, or of the process that an earlier agent left
  std::chrono::system_clock::time_point since;
};

/// Workers for whoever works on a volume: made when needed, given back and used again.
///
///               lease                  answered: give back
///     idle ───────────────▶ leased ───────────────────────▶ idle (or ended, when enough are idle)
///      ▲                      │ no answer by the deadline
///      │ answered meanwhile   ▼
///      └─────────────────── hung: keeps its volume from being touched; looked at again by the next lease of that volume
///
/// A worker that dies is replaced by the next lease; of its volume only once the tool that it may have run is gone.
///
/// Threading: thread safe; the kernels it gives out are one thread's each and must not outlive it.
/// Errors: unavailable: the volume's last verb still hangs, something of an earlier agent does, or the zygote is gone.
class WorkerPool : public KernelSource {
 public:
  struct Options {
    std::size_t idle_workers = 4;                     ///< how many to keep at hand; each costs memory
    std::chrono::milliseconds verb_deadline{60'000};  ///< for an answer; run_tool: the request's own and 10 s more
  };

  WorkerPool(Zygote zygote, LeftBehind left_behind, Options options);
  ~WorkerPool() override;

  Result<std::unique_ptr<Kernel>> for_volume(std::string_view volume_id) override;

  /// All that hangs now.
  [[nodiscard]] std::vector<Hang> hangs();
  /// False: the zygote is gone; nothing but a restart of the agent helps.
  [[nodiscard]] bool alive() const { return zygote_.alive(); }
  /// Lets every call that waits for a worker return `unavailable` at once, and all that come after: the agent is ending.
  void stop();

 private:
  friend class RemoteKernel;
  /// One worker, with what has been read of its answer.
  struct Worker {
    pid_t pid = 0;
    Channel channel;
  };
  struct Hung {
    std::unique_ptr<Worker> worker;
    Hang hang;
  };

  Result<std::unique_ptr<Worker>> lease(const std::string& volume);
  void give_back(std::unique_ptr<Worker> worker);
  void leave(std::unique_ptr<Worker> worker, Hang hang);
  /// The error by which this verb of the volume ended when nobody waited for it any more, once; only unmounting is kept in mind: that what
  /// was written last is lost is told by one call alone.
  std::optional<Error> take_late_error(const std::string& volume, const std::string& what);
  void keep_late_error(const Hang& hang, const std::string& answer);
  /// Takes back who has answered meanwhile and forgets who has died; the lock is held. An error: one still hangs in this volume.
  Result<void> look_at_hung(const std::string* volume);

  const Options options_;
  std::atomic<bool> stopping_ = false;
  const UniqueFd stopped_;  ///< an eventfd that stop() makes readable, for those who wait already

  Zygote zygote_;
  std::mutex zygote_mutex_;  ///< for make_worker

  std::mutex mutex_;  ///< for all below
  LeftBehind left_behind_;
  std::vector<std::unique_ptr<Worker>> idle_;
  std::vector<Hung> hung_;
  std::map<std::pair<std::string, std::string>, Error> late_errors_;  ///< by volume and Hang::what
};

}  // namespace ordinald::mount
