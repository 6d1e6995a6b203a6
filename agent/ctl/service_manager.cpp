#include "agent/ctl/service_manager.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include <array>
#include <cstdlib>
#include <ctime>
#include <map>
#include <system_error>
#include <thread>
#include <utility>

#include "mount/error.hpp"
#include "mount/unique_fd.hpp"

namespace ordinald::ctl {
namespace {

using mount::ErrorCode;
using mount::make_error;

constexpr const char* service = "org.freedesktop.systemd1";
constexpr const char* manager_path = "/org/freedesktop/systemd1";
constexpr const char* manager_interface = "org.freedesktop.systemd1.Manager";
constexpr const char* unit_interface = "org.freedesktop.systemd1.Unit";
constexpr const char* service_interface = "org.freedesktop.systemd1.Service";
constexpr std::uint64_t call_timeout_usec = 90'000'000;

struct BusEnd {
  void operator()(sd_bus* bus) const { ::sd_bus_flush_close_unref(bus); }
};
struct MessageEnd {
  void operator()(sd_bus_message* message) const { ::sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, MessageEnd>;

/// sd_bus_error with its end.
class BusError {
 public:
  BusError() = default;
  BusError(const BusError&) = delete;
  BusError& operator=(const BusError&) = delete;
  ~BusError() { ::sd_bus_error_free(&error_); }
  sd_bus_error* get() { return &error_; }

  /// `status` is what the call answered, negative.
  mount::Error as_error(int status, const std::string& what) {
    if (error_.message == nullptr) {
      return mount::errno_error(-status, what);
    }
    const std::string name = error_.name == nullptr ? "" : error_.name;
    const bool missing = name.ends_with(".NoSuchUnit") || name.ends_with(".LoadFailed");
    return {missing ? ErrorCode::not_found : ErrorCode::internal, what + ": systemd says: " + error_.message};
  }

 private:
  sd_bus_error error_ = SD_BUS_ERROR_NULL;
};

const char* method_of(Job job) {
  switch (job) {
    case Job::start:
      return "StartUnit";
    case Job::stop:
      return "StopUnit";
    case Job::restart:
      return "RestartUnit";
  }
  return "";
}

const char* word_of(Job job) { return job == Job::start ? "starting " : job == Job::stop ? "stopping " : "restarting "; }

/// Has the journal take in all that was printed until now, as `journalctl --sync` does: what a unit says when it fails may be on its way
/// yet when systemd calls its job failed. Without an answer in time the journal is read as it is.
void sync_journal() {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/io.systemd.journal"};
  constexpr std::string_view call{"{\"method\":\"io.systemd.Journal.Synchronize\"}"};
  constexpr timeval patience{.tv_sec = 5, .tv_usec = 0};
  const mount::UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return;
  }
  const std::string message = std::string{call} + '\0';  // which ends a message there (varlink.org)
  std::array<char, 256> answer{};
  if (::send(fd.get(), message.data(), message.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(message.size())) {
    static_cast<void>(::recv(fd.get(), answer.data(), answer.size(), 0) < 0);
  }
}

class Systemd : public ServiceManager {
 public:
  explicit Systemd(sd_bus* bus) : bus_(bus) {}

  mount::Result<void> listen() {
    TRYV(call(manager_path, manager_interface, "Subscribe", "asking systemd to tell of its jobs").as_void);
    sd_bus_slot* slot = nullptr;  // floats: ends with the bus
    const int status =
        ::sd_bus_match_signal(bus_.get(), &slot, nullptr, manager_path, manager_interface, "JobRemoved", &Systemd::on_job_removed, this);
    if (status < 0) {
      return mount::errno_error(-status, "listening to systemd's jobs");
    }
    ::sd_bus_slot_set_floating(slot, 1);
    ::sd_bus_slot_unref(slot);
    return mount::success();
  }

  mount::Result<void> reload() override { return call(manager_path, manager_interface, "Reload", "systemd's daemon-reload").as_void; }

  mount::Result<UnitState> state(const std::string& unit) override {
    TRY(const std::string path, object_of(unit));
    UnitState state;
    TRY(state.load, text(path, unit_interface, "LoadState"));
    TRY(state.active, text(path, unit_interface, "ActiveState"));
    TRY(state.sub, text(path, unit_interface, "SubState"));
    TRY(state.fragment, text(path, unit_interface, "FragmentPath"));
    TRY(state.drop_ins, texts(path, unit_interface, "DropInPaths"));
    std::uint64_t since = 0;
    TRYV(trivial(path, unit_interface, "ActiveEnterTimestampMonotonic", 't', &since));
    state.active_since = Clock{since};
    if (unit.ends_with(".service")) {
      TRY(state.result, text(path, service_interface, "Result"));
      TRYV(trivial(path, service_interface, "ExecMainStatus", 'i', &state.exit_status));
    }
    return state;
  }

  mount::Result<std::string> run(Job job, const std::string& unit, std::chrono::seconds timeout, const Progress& progress) override {
    const std::string what = word_of(job) + unit;
    BusError error;
    sd_bus_message* answer = nullptr;
    const int status = ::sd_bus_call_method(bus_.get(), service, manager_path, manager_interface, method_of(job), error.get(), &answer,
                                            "ss", unit.c_str(), "replace");
    const Message owned{answer};
    if (status < 0) {
      return error.as_error(status, what);
    }
    const char* job_path = nullptr;
    if (const int read = ::sd_bus_message_read(answer, "o", &job_path); read < 0) {
      return mount::errno_error(-read, what + ": systemd's answer");
    }
    const std::string job_name = job_path;
    const Clock deadline = now() + timeout;
    while (true) {
      TRYV(dispatch(what));
      if (const auto ended = ended_.find(job_name); ended != ended_.end()) {
        std::string result = ended->second;
        ended_.clear();
        return result;
      }
      if (now() >= deadline) {
        return std::string{still_running};
      }
      if (progress) {
        progress();
      }
      ::sd_bus_wait(bus_.get(), 500'000);
    }
  }

  std::vector<std::string> last_lines(const std::string& unit, std::size_t count) override {
    std::vector<std::string> lines;
    sync_journal();
    sd_journal* journal = nullptr;
    if (::sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY) < 0) {
      return lines;
    }
    const std::string printed = "_SYSTEMD_UNIT=" + unit;  // by the unit, and about it
    const std::string about = "UNIT=" + unit;
    ::sd_journal_add_match(journal, printed.data(), printed.size());
    ::sd_journal_add_disjunction(journal);
    ::sd_journal_add_match(journal, about.data(), about.size());
    ::sd_journal_seek_tail(journal);
    while (lines.size() < count && ::sd_journal_previous(journal) > 0) {
      const void* data = nullptr;
      std::size_t size = 0;
      if (::sd_journal_get_data(journal, "MESSAGE", &data, &size) == 0) {
        lines.insert(lines.begin(), std::string{static_cast<const char*>(data), size}.substr(std::string_view{"MESSAGE="}.size()));
      }
    }
    ::sd_journal_close(journal);
    return lines;
  }

  [[nodiscard]] Clock now() const override {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return std::chrono::seconds{time.tv_sec} + std::chrono::duration_cast<Clock>(std::chrono::nanoseconds{time.tv_nsec});
  }

  void pause(std::chrono::milliseconds time) override { std::this_thread::sleep_for(time); }

 private:
  struct Called {
    mount::Result<void> as_void = mount::success();
  };

  Called call(const char* path, const char* interface, const char* method, const std::string& what) {
    BusError error;
    sd_bus_message* answer = nullptr;
    const int status = ::sd_bus_call_method(bus_.get(), service, path, interface, method, error.get(), &answer, "");
    const Message owned{answer};
    return status < 0 ? Called{error.as_error(status, what)} : Called{};
  }

  mount::Result<std::string> object_of(const std::string& unit) {
    BusError error;
    sd_bus_message* answer = nullptr;
    const int status =
        ::sd_bus_call_method(bus_.get(), service, manager_path, manager_interface, "LoadUnit", error.get(), &answer, "s", unit.c_str());
    const Message owned{answer};
    if (status < 0) {
      return error.as_error(status, unit);
    }
    const char* path = nullptr;
    if (const int read = ::sd_bus_message_read(answer, "o", &path); read < 0) {
      return mount::errno_error(-read, unit + ": systemd's answer");
    }
    return std::string{path};
  }

  mount::Result<std::string> text(const std::string& path, const char* interface, const char* property) {
    BusError error;
    char* value = nullptr;
    const int status = ::sd_bus_get_property_string(bus_.get(), service, path.c_str(), interface, property, error.get(), &value);
    if (status < 0) {
      return error.as_error(status, std::string{"reading "} + property + " of " + path);
    }
    std::string copy = value;
    std::free(value);
    return copy;
  }

  mount::Result<std::vector<std::string>> texts(const std::string& path, const char* interface, const char* property) {
    BusError error;
    char** values = nullptr;
    const int status = ::sd_bus_get_property_strv(bus_.get(), service, path.c_str(), interface, property, error.get(), &values);
    if (status < 0) {
      return error.as_error(status, std::string{"reading "} + property + " of " + path);
    }
    std::vector<std::string> copy;
    for (char** value = values; value != nullptr && *value != nullptr; ++value) {
      copy.emplace_back(*value);
      std::free(*value);
    }
    std::free(static_cast<void*>(values));
    return copy;
  }

  mount::Result<void> trivial(const std::string& path, const char* interface, const char* property, char type, void* value) {
    BusError error;
    const int status = ::sd_bus_get_property_trivial(bus_.get(), service, path.c_str(), interface, property, error.get(), type, value);
    if (status < 0) {
      return error.as_error(status, std::string{"reading "} + property + " of " + path);
    }
    return mount::success();
  }

  mount::Result<void> dispatch(const std::string& what) {
    int status = 0;
    while ((status = ::sd_bus_process(bus_.get(), nullptr)) > 0) {
    }
    if (status < 0) {
      return make_error(ErrorCode::unavailable, what + ": systemd's answer is lost (" +
                                                    std::string{std::generic_category().message(-status)} +
                                                    "); see systemctl status, and do it again");
    }
    return mount::success();
  }

  static int on_job_removed(sd_bus_message* message, void* self, sd_bus_error* /*error*/) {
    std::uint32_t id = 0;
    const char* job = nullptr;
    const char* unit = nullptr;
    const char* result = nullptr;
    if (::sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) >= 0) {
      static_cast<Systemd*>(self)->ended_[job] = result;
    }
    return 0;
  }

  std::unique_ptr<sd_bus, BusEnd> bus_;
  std::map<std::string, std::string> ended_;  ///< jobs that did since the last one was asked for
};

}  // namespace

bool has_systemd() { return ::sd_booted() > 0; }

mount::Result<std::unique_ptr<ServiceManager>> connect_service_manager() {
  constexpr const char* address = "unix:path=/run/systemd/private";
  if (!has_systemd()) {
    return make_error(ErrorCode::failed_precondition, "systemd does not run this machine");
  }
  sd_bus* bus = nullptr;
  int status = ::sd_bus_new(&bus);
  if (status >= 0) {
    status = ::sd_bus_set_address(bus, address);
  }
  if (status >= 0) {
    status = ::sd_bus_set_method_call_timeout(bus, call_timeout_usec);
  }
  if (status >= 0) {
    status = ::sd_bus_start(bus);
  }
  if (status < 0) {
    ::sd_bus_unref(bus);
    return make_error(ErrorCode::unavailable, std::string{"connecting to systemd at /run/systemd/private: "} +
                                                  std::generic_category().message(-status) +
                                                  (status == -EACCES || status == -EPERM ? "; only root may" : ""));
  }
  auto manager = std::make_unique<Systemd>(bus);
  TRYV(manager->listen());
  return std::unique_ptr<ServiceManager>{std::move(manager)};
}

}  // namespace ordinald::ctl
