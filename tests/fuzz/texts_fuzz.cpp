/// Any text as each small thing that the agent or ordinalctl reads of the kernel, of a pool, or of a file that may be damaged. The first
/// byte says as which (`readers`, in that order).
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "agent/ctl/hosts_file.hpp"
#include "agent/ctl/text.hpp"
#include "agent/image_label.hpp"
#include "agent/pool_marks.hpp"
#include "agent/pool_places.hpp"
#include "mount/mount_words.hpp"
#include "mount/proc_text.hpp"
#include "mount/taken_note.hpp"
#include "mount/worker_mark.hpp"
#include "tests/fuzz/must.hpp"

namespace {

using namespace ordinald;
using ordinald::fuzz::must;

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

/// /proc/PID/stat, and any name as a program's.
void read_stat(std::string_view text) {
  (void)mount::start_time_in(text);
  const std::string line = "4711 (" + std::string{text} + ") S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5338270 3 4 5";
  must(mount::start_time_in(line) == 5338270);
}

/// /proc/PID/maps, and any path as a mapped file's.
void read_maps(std::string_view text) {
  bool any = false;
  (void)mount::maps_any_of(std::string{text}, [&](std::uint64_t) {
    any = true;
    return false;
  });
  must(!any || text.find(':') != std::string_view::npos);
  std::string path{text};
  std::erase(path, '\n');  // the kernel writes \012
  const auto is_its = [](std::uint64_t device) { return device == 0x801; };
  must(mount::maps_any_of("7f0-7f1 r--p 00000000 08:01 123 " + path, is_its));
  must(!mount::maps_any_of("7f0-7f1 r--p 00000000 08:02 123 " + path, is_its));
}

/// cgroup.procs
void read_procs(std::string_view text) {
  std::vector<std::int64_t> pids;
  std::uint64_t unseen = 0;
  mount::add_processes_in(std::string{text}, pids, unseen);
  must(std::ranges::find(pids, 0) == pids.end() && pids.size() + unseen <= text.size());
}

/// /proc/locks
void read_locks(std::string_view text) {
  for (const std::uint64_t inode : {std::uint64_t{0}, std::uint64_t{112}, std::numeric_limits<std::uint64_t>::max()}) {
    const auto pid = mount::flock_holder_in(std::string{text}, inode);
    must(!pid || (*pid != "0" && !pid->empty() && pid->find_first_not_of("0123456789") == std::string::npos));
  }
}

/// /proc/self/fdinfo/FD
void read_fdinfo(std::string_view text) {
  const auto id = mount::mount_id_in(text);
  must(!id || text.find(std::to_string(*id)) != std::string_view::npos);
}

/// The attribute of a file whose group is being changed.
void read_taken(std::string_view text) {
  const auto taken = mount::parse_taken(text);
  must(!taken || (taken->mode <= 07777 && mount::to_text(*taken) == text));
  const mount::Taken other{.mode = 06711, .changed = "1700000000.5", .capability = std::string{text}};
  must(mount::parse_taken(mount::to_text(other)) == other);
}

/// <stateDir>/pools.json
void read_marks(std::string_view text) {
  const auto marks = agent::parse_pool_marks(text);
  for (const auto& [pool, mark] : marks) {
    must(!mark.empty() && mark.find_first_of(" \t\n'\"$`\\;&|<>()") == std::string::npos);  // it is shown in a command
  }
  must(agent::parse_pool_marks(agent::to_json(marks)) == marks);
}

/// <runDir>/pools.json
void read_places(std::string_view text) {
  const auto places = agent::parse_pool_places(text, "boot");
  must(places.empty() || text.find("boot_id") != std::string_view::npos || text.find('\\') != std::string_view::npos);
}

/// /etc/hosts: what is not the set's stays as it is, byte for byte.
void read_hosts(std::string_view text) {
  const std::string before{text};
  const auto with = ctl::with_hosts_block(before, "db", {"127.0.0.1 db-0.db db-0"});
  if (!with) {
    must(!with.error().message.empty() &&
         (ctl::has_hosts_block(before, "db") || before.find("# END ordinald set db\n") != std::string::npos));
    return;
  }
  must(ctl::has_hosts_block(with.value(), "db"));
  must(ctl::with_hosts_block(with.value(), "db", {"127.0.0.1 db-0.db db-0"}).value() == with.value());
  const auto without = ctl::with_hosts_block(with.value(), "db", {});
  must(without && !ctl::has_hosts_block(without.value(), "db"));
  if (!ctl::has_hosts_block(before, "db")) {
    must(without.value() == before || without.value() == before + "\n");
  }
}

/// The kernel's words of a mount that it refuses: the first line. The others: mount flags, of which nothing may be seen.
void read_words(std::string_view text) {
  const auto lines = lines_of(text);
  if (lines.empty()) return;
  const std::vector<std::string> options(lines.begin() + 1, lines.end());
  std::vector<std::uint32_t> places;
  for (std::uint32_t i = 0; i < options.size(); ++i) {
    places.push_back(i);
  }
  std::string shown = mount::hide_options(lines.front(), options, places);
  // What was put in their place is no part of them.
  for (std::size_t at = 0; (at = shown.find("mount_flags[", at)) != std::string::npos;) {
    const std::size_t end = shown.find(']', at);
    if (end == std::string::npos) break;
    shown.replace(at, end - at + 1, "\n");
  }
  for (const std::string& option : options) {
    const bool own = std::string_view{"mount_flags[0123456789]"}.find(option) != std::string_view::npos;
    must(option.size() <= 2 || own || shown.find(option) == std::string::npos);
  }
}

/// Whatever ordinalctl shows: it drives no terminal, and fits; times and numbers of an answer.
void read_shown(std::string_view text) {
  const std::string safe = ctl::harmless(text);
  must(std::ranges::none_of(safe, [](unsigned char c) { return c < ' ' || c == 0x7F; }));
  must(ctl::harmless(safe) == safe);
  for (const std::size_t limit : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{80}}) {
    must(ctl::columns(ctl::fitted(safe, limit)) <= limit);
  }
  const auto now = ctl::Time{std::chrono::seconds{1'790'000'000}};
  must(!ctl::when_text(text, now).empty() || text.empty());
  must(!ctl::ago_text(text, now).empty() || text.empty());
  std::int64_t number = 0;
  std::copy_n(text.begin(), std::min(text.size(), sizeof number), reinterpret_cast<char*>(&number));
  must(ctl::size_text(number).find(' ') != std::string::npos && !ctl::duration_text(std::chrono::seconds{number}).empty());
}

/// The name of a worker's mark, and what is in it.
void read_worker(std::string_view text) {
  pid_t pid = 0;
  std::uint64_t started = 0;
  if (mount::parse_mark_name(text, pid, started)) {
    must(pid > 0);
    pid_t again = 0;
    std::uint64_t also = 0;
    must(mount::parse_mark_name(std::to_string(pid) + "." + std::to_string(started), again, also) && again == pid && also == started);
  }
  const auto mark = mount::parse_mark(text);
  must(!mark || mark->tool_pid >= 0);
}

/// An image's label: what is made anew from it is never formatted, and says the same again.
void read_label(std::string_view text) {
  const auto record = agent::parse_record(text);
  if (!record) {
    must(!record.error().message.empty());
    return;
  }
  const std::string label = agent::label_of(record.value());
  const auto again = agent::parse_record(label);
  must(again && again.value().content == agent::Content::raw && again.value().fs_uuid.empty() && !again.value().deleting);
  must(again.value().id == record.value().id && again.value().claim == record.value().claim && agent::label_of(again.value()) == label);
  const std::string claim = agent::claim_before(again.value());
  must(claim.empty() || again.value().claim.name.empty());
}

constexpr std::array readers{&read_stat,   &read_maps,  &read_procs, &read_locks, &read_fdinfo, &read_taken, &read_marks,
                             &read_places, &read_hosts, &read_words, &read_shown, &read_worker, &read_label};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 0) {
    readers[data[0] % readers.size()]({reinterpret_cast<const char*>(data) + 1, size - 1});
  }
  return 0;
}
