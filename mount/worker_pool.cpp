#include "mount/worker_pool.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "mount/archive.hpp"
#include "mount/process.hpp"
#include "mount/remote_kernel.hpp"

namespace ordinald::mount {
namespace {

using std::chrono::steady_clock;

Error still_hangs(const Hang& hang) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now() - hang.since).count();
  return make_error(ErrorCode::unavailable,
                    "volume " + hang.volume + ": " + hang.what + " hangs since " + clock_text(hang.since) + " (" + std::to_string(seconds) +
                        " s), in worker process " + std::to_string(hang.pid) +
                        ": its device, or what lies below it, does not answer (see dmesg). It is served again once it does");
}

}  // namespace

WorkerPool::WorkerPool(Zygote zygote, LeftBehind left_behind, Options options)
    : options_(options),
      stopped_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      zygote_(std::move(zygote)),
      left_behind_(std::move(left_behind)) {}

WorkerPool::~WorkerPool() {
  // Idle ones remove their marks and end at once; they are given a moment, because the zygote takes down what is left.
  for (const auto& worker : idle_) worker->channel.finish();
  const auto until = steady_clock::now() + std::chrono::milliseconds{500};
  for (const auto& worker : idle_) {
    std::string nothing;
    worker->channel.receive(nothing, until);
  }
}

Result<std::unique_ptr<Kernel>> WorkerPool::for_volume(std::string_view volume_id) {
  std::string volume{volume_id};
  TRY(auto worker, lease(volume));
  return std::make_unique<RemoteKernel>(*this, std::move(volume), std::move(worker));
}

Result<std::unique_ptr<WorkerPool::Worker>> WorkerPool::lease(const std::string& volume) {
  if (stopping_) return make_error(ErrorCode::unavailable, "the agent is ending");
  LeftBehind left_behind;
  {
    const std::lock_guard lock{mutex_};
    TRYV(look_at_hung(&volume));
    left_behind = left_behind_;
  }
  TRYV(left_behind.check(volume));  // may have to wait a moment
  {
    const std::lock_guard lock{mutex_};
    while (!idle_.empty() && zygote_.alive()) {  // without the zygote they are about to end
      auto worker = std::move(idle_.back());
      idle_.pop_back();
      if (worker->channel.quiet()) return worker;  // else it has died meanwhile
    }
  }
  const std::lock_guard lock{zygote_mutex_};
  TRY(Zygote::Worker made, zygote_.make_worker());
  return std::make_unique<Worker>(Worker{.pid = made.pid, .channel = Channel{std::move(made.socket)}});
}

void WorkerPool::give_back(std::unique_ptr<Worker> worker) {
  const std::lock_guard lock{mutex_};
  if (idle_.size() < options_.idle_workers) idle_.push_back(std::move(worker));
  // else its socket is closed, and it ends by that
}

void WorkerPool::leave(std::unique_ptr<Worker> worker, Hang hang) {
  const std::lock_guard lock{mutex_};
  hung_.push_back({std::move(worker), std::move(hang)});
}

Result<void> WorkerPool::look_at_hung(const std::string* volume) {
  for (auto hung = hung_.begin(); hung != hung_.end();) {
    std::string late;
    if (volume != nullptr && hung->hang.volume != *volume) {
      ++hung;
      continue;
    }
    switch (hung->worker->channel.receive(late, steady_clock::time_point{})) {
      case Channel::Status::done:  // nobody waits for this answer any more: every verb is safe to repeat
        (void)hung->worker->channel.take_fd();
        keep_late_error(hung->hang, late);
        if (idle_.size() < options_.idle_workers) idle_.push_back(std::move(hung->worker));
        hung = hung_.erase(hung);
        break;
      case Channel::Status::closed: {  // it died; a tool that it ran may live on
        const auto left = LeftBehind::collect_of(zygote_.run_dir(), hung->worker->pid);
        if (left) {
          left_behind_.merge(left.value());
          hung = hung_.erase(hung);
        } else if (volume != nullptr) {
          return left.error();
        } else {
          ++hung;
        }
        break;
      }
      default:
        if (volume != nullptr) return still_hangs(hung->hang);
        ++hung;
    }
  }
  return success();
}

void WorkerPool::keep_late_error(const Hang& hang, const std::string& answer) {
  if (!hang.unmounts) {
    return;
  }
  const auto result = archive::Reader{answer}.get_result<void>();
  if (!result && result.error().code != ErrorCode::failed_precondition) {  // else it is mounted still, and the repetition tells
    late_errors_.insert_or_assign({hang.volume, hang.what}, result.error());
  }
}

std::optional<Error> WorkerPool::take_late_error(const std::string& volume, const std::string& what) {
  const std::lock_guard lock{mutex_};
  const auto late = late_errors_.extract({volume, what});
  return late.empty() ? std::nullopt : std::optional{late.mapped()};
}

std::vector<Hang> WorkerPool::hangs() {
  std::vector<Hang> found;
  {
    const std::lock_guard lock{mutex_};
    (void)look_at_hung(nullptr);  // without a volume it refuses nothing
    for (const Hung& hung : hung_) found.push_back(hung.hang);
    for (const LeftBehind::Process& process : left_behind_.alive()) {
      found.push_back({.volume = process.volume, .what = process.command + ", left behind,", .pid = process.pid, .since = process.since});
    }
  }
  return found;
}

void WorkerPool::stop() {
  stopping_ = true;
  ::eventfd_write(stopped_.get(), 1);
}

}  // namespace ordinald::mount
