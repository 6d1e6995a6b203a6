#include "agent/agent.hpp"

#include <malloc.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "agent/admin/admin_api.hpp"
#include "agent/admin/admin_endpoint.hpp"
#include "agent/instance_lock.hpp"
#include "agent/service_notify.hpp"
#include "agent/volume_manager.hpp"
#include "csi/server.hpp"
#include "mount/left_behind.hpp"
#include "mount/worker_pool.hpp"

namespace ordinald::agent {

namespace asio = boost::asio;
using mount::Result;
using std::chrono::milliseconds;

/// In the order of their making; each may use those above it.
struct Agent::Parts {
  asio::io_context io{1};
  asio::signal_set signals{io, SIGTERM, SIGINT};  ///< from now on: what comes while we start is found by run
  Config config;
  std::shared_ptr<const mount::Log> log;
  ServiceNotify notify;
  InstanceLock state_lock;
  InstanceLock run_lock;
  mount::UniqueFd zygote;  ///< a pidfd
  std::unique_ptr<mount::WorkerPool> workers;
  std::unique_ptr<VolumeManager> volumes;
  std::unique_ptr<AdminApi> admin_api;
  std::unique_ptr<AdminEndpoint> admin;
  std::unique_ptr<csi::Server> server;
};

namespace {

/// One run of the io loop: who is listened to, and the way down. Lives on the stack of Agent::run.
class Loop {
 public:
  Loop(asio::io_context& io, asio::signal_set& signals, std::chrono::seconds whole_drain, const mount::Log& log,
       const ServiceNotify& notify, mount::WorkerPool& workers, int zygote, std::function<std::vector<std::string>()> working)
      : io_(io),
        signals_(signals),
        whole_drain_(whole_drain),
        log_(log),
        notify_(notify),
        workers_(workers),
        zygote_(io, zygote),
        working_(std::move(working)) {}
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    zygote_.release();
    if (drain_.joinable()) {
      drain_.join();
    }
  }

  /// Until the end has come; the process's exit status. `let_go` runs on a thread of its own: ends the calls within the time given, then
  /// all parts; false when calls still run.
  int run(std::function<bool(milliseconds)> let_go) {
    let_go_ = std::move(let_go);
    wait_for_signal();
    zygote_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
      if (!error) {
        zygote_ended();
      }
    });
    if (const auto interval = notify_.watchdog_interval(); interval) {
      ping(*interval);
    }
    while (!io_.stopped()) {
      try {
        io_.run();
      } catch (const std::exception& error) {
        log_.error("a bug in the io loop, which goes on: {}", error.what());
      }
    }
    return status_;
  }

 private:
  void wait_for_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int number) {
      if (error) {
        return;
      }
      drain(std::string{"SIG"} + ::sigabbrev_np(number));
      wait_for_signal();  // a second one finds us draining; its default action would cut the drain short
    });
  }

  void zygote_ended() {
    if (drain_.joinable()) {
      return;  // a service manager may have sent its signal to every process
    }
    log_.error("the process that makes workers has ended: no device can be worked on any more; ending, so that a restart can mend it");
    status_ = 1;
    drain("the end of that process");
  }

  /// Says that all is well for as long as it is: a loop that hangs pings no more, and without the zygote there is nothing to keep alive.
  void ping(std::chrono::microseconds interval) {
    pollfd zygote{.fd = zygote_.native_handle(), .events = POLLIN, .revents = 0};  // WorkerPool::alive may have to wait for its lock
    if (::poll(&zygote, 1, 0) == 0) {
      notify_.alive();
    }
    watchdog_.expires_after(interval);
    watchdog_.async_wait([this, interval](const boost::system::error_code& error) {
      if (!error) {
        ping(interval);
      }
    });
  }

  void drain(const std::string& reason) {
    if (drain_.joinable()) {
      log_.info("{} while draining: the drain goes on", reason);
      return;
    }
    log_.info("{}: taking no new calls, waiting up to {} s for those that run", reason, whole_drain_.count());
    notify_.stopping("draining after " + reason, whole_drain_);
    // What is left after `patience` is for calls that were cut off to answer, and for the parts to end.
    const milliseconds whole = whole_drain_;
    const milliseconds patience = whole - std::min(milliseconds{2000}, whole / 2);
    cut_off_.expires_after(patience);
    cut_off_.async_wait([this](const boost::system::error_code& error) {
      if (!error) {
        cut_off();
      }
    });
    deadline_.expires_after(whole);
    deadline_.async_wait([this](const boost::system::error_code& error) {
      if (!error) {
        abandon();
      }
    });
    drain_ = std::thread([this, patience] {
      const bool gone = let_go_(patience);
      asio::post(io_, [this, gone] { gone ? io_.stop() : abandon(); });
    });
  }

  /// Calls that wait for a device or a tool are told `unavailable` now: their callers try again with our successor.
  void cut_off() {
    for (const std::string& call : working_()) {
      log_.warn("{}: still runs; where it waits for a device or a tool it is cut off now, and can be repeated", call);
    }
    workers_.stop();
  }

  /// Ends the process here and now: a destructor would wait for what hangs.
  [[noreturn]] void abandon() {
    for (const std::string& call : working_()) {
      log_.warn("{}: left running at the end; its work is found as it was left, and it can be repeated", call);
    }
    log_.warn("ended with calls still running");
    ::_exit(status_);
  }

  asio::io_context& io_;
  asio::signal_set& signals_;
  std::chrono::seconds whole_drain_;
  const mount::Log& log_;
  const ServiceNotify& notify_;
  mount::WorkerPool& workers_;
  asio::posix::stream_descriptor zygote_;
  std::function<std::vector<std::string>()> working_;  ///< the calls that are
  asio::steady_timer watchdog_{io_};
  asio::steady_timer cut_off_{io_};
  asio::steady_timer deadline_{io_};
  std::function<bool(milliseconds)> let_go_;
  std::thread drain_;
  int status_ = 0;
};

}  // namespace

Agent::Agent(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::start(const Config& config, mount::Zygote zygote, std::shared_ptr<const mount::Log> log) {
  auto parts = std::make_unique<Parts>();
  parts->config = config;
  parts->log = std::move(log);
  parts->notify.status("starting");

  TRY(parts->state_lock, InstanceLock::acquire(config.state_dir));
  if (std::error_code none; std::filesystem::equivalent(config.state_dir, config.run_dir, none)) {
    return mount::make_error(mount::ErrorCode::invalid_argument, "runDir: expected a directory apart from stateDir, found " +
                                                                     config.run_dir + ", which is the same one as " + config.state_dir +
                                                                     " by a symlink or a mount");
  }
  TRY(parts->run_lock, InstanceLock::acquire(config.run_dir));
  // With the run directory's lock held: whoever left a mark there has no living agent any more.
  TRY(auto left_behind, mount::LeftBehind::collect(config.run_dir));
  for (const auto& process : left_behind.alive()) {
    parts->log->warn(
        "an earlier agent left process {} ({}), which works on volume {} and has been killed; the volume waits until it is gone",
        process.pid, process.command, process.volume);
  }

  parts->zygote.reset(static_cast<int>(::syscall(SYS_pidfd_open, zygote.pid(), 0)));
  if (!parts->zygote) {
    return mount::errno_error(errno, "can't watch the process that makes workers");
  }
  parts->workers = std::make_unique<mount::WorkerPool>(std::move(zygote), std::move(left_behind),
                                                       mount::WorkerPool::Options{.verb_deadline = config.device_timeout});
  TRY(parts->volumes, VolumeManager::open(config, *parts->workers, parts->log));

  parts->admin_api = std::make_unique<AdminApi>(*parts->volumes, [&workers = *parts->workers] { return workers.hangs(); });
  if (const std::string path = config.admin_socket.value_or(""); !path.empty()) {
    auto admin = AdminEndpoint::start(path, *parts->admin_api, parts->log);
    if (!admin) {
      return admin.error().with_context("the admin socket");
    }
    parts->admin = std::move(admin).value();
  }

  const csi::ServerOptions serve{
      .endpoint = config.endpoint,
      .plugin = {.name = config.plugin_name, .vendor_version = ORDINALD_VERSION, .controller_expansion = config.controller_expansion},
      .max_threads = config.max_threads,
      .connections = {.most = static_cast<std::size_t>(std::max(1024, 4 * config.max_threads))},
      .answers = {.crowd = static_cast<std::size_t>(std::max(1, config.max_threads / 4))}};
  TRY(parts->server, csi::Server::start(serve, *parts->volumes, parts->log));

  parts->log->info("ordinald {} serves node {} on {}", ORDINALD_VERSION, config.node_id, config.endpoint);
  parts->notify.ready("serving node " + config.node_id + " on " + config.endpoint);
  ::malloc_trim(0);  // what starting needed, serving doesn't
  return std::unique_ptr<Agent>{new Agent{std::move(parts)}};
}

/// Once, and then every so often until it is told to stop.
void Agent::repair_at_intervals(const std::stop_token& stop) {
  const std::chrono::seconds interval = parts_->config.repair_interval;
  constexpr auto hours = std::chrono::hours{1};
  for (bool repairs = true; !stop.stop_requested(); repairs = interval != std::chrono::seconds{0}) {
    try {
      if (repairs) {
        parts_->volumes->repair(stop);
      }
    } catch (const std::exception& error) {
      parts_->log->error("a bug in a repair: {}", error.what());
    }
    try {
      parts_->volumes->watch_hand_overs(stop, std::chrono::steady_clock::now() + (repairs ? interval : hours));
    } catch (const std::exception& error) {
      parts_->log->error("a bug in looking after a hand-over: {}", error.what());
    }
  }
}

int Agent::run() {
  std::mutex ending;  // the server's end is the drain's, and the loop may ask for its calls until then
  const auto working = [this, &ending] {
    const std::scoped_lock lock{ending};
    return parts_->server ? parts_->server->working() : std::vector<std::string>{};
  };
  Loop loop{parts_->io,     parts_->signals,  parts_->config.drain, *parts_->log,
            parts_->notify, *parts_->workers, parts_->zygote.get(), working};
  std::jthread repairs{[this](const std::stop_token& stop) { repair_at_intervals(stop); }};
  const int status = loop.run([this, &repairs, &ending](milliseconds patience) {
    if (parts_->admin) {
      parts_->admin->stop();
    }
    if (!parts_->server->shutdown(patience)) {
      return false;
    }
    repairs.request_stop();
    parts_->workers->stop();  // only a repair can still wait for a device: it is cut off, and done again by the next agent
    repairs.join();
    parts_->admin.reset();
    std::unique_ptr<csi::Server> server;
    {
      const std::scoped_lock lock{ending};
      server = std::move(parts_->server);
    }
    return true;
  });
  parts_->log->info("ended; mounts stay as they are");
  return status;
}

}  // namespace ordinald::agent
