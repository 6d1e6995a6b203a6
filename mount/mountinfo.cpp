#include "mount/mountinfo.hpp"

#include <dirent.h>
#include <libmount/libmount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "mount/files.hpp"

namespace ordinald::mount {
namespace {

using Table = std::unique_ptr<libmnt_table, decltype([](libmnt_table* table) { ::mnt_unref_table(table); })>;
using Iterator = std::unique_ptr<libmnt_iter, decltype([](libmnt_iter* iterator) { ::mnt_free_iter(iterator); })>;
using Stream = std::unique_ptr<std::FILE, decltype([](std::FILE* file) { std::fclose(file); })>;

std::string text_of(const char* text) { return text == nullptr ? std::string{} : std::string{text}; }

/// libmount calls this for a line that it can't read; a positive answer would skip the line, a negative one ends the parse.
int refuse_line(libmnt_table* table, const char* /*name*/, int line) {
  *static_cast<int*>(::mnt_table_get_userdata(table)) = line;
  return -EINVAL;
}

/// `mnt:[4026531841]`, which two processes share when they are in the same namespace.
Result<std::uint64_t> mount_namespace_of(const std::string& process) {
  struct stat status{};
  if (::stat(("/proc/" + process + "/ns/mnt").c_str(), &status) != 0) {
    return errno_error(errno, "looking at the mount namespace of process " + process);
  }
  return status.st_ino;
}

/// One process, the one with the lowest pid, for each mount namespace but our own.
Result<std::map<std::uint64_t, std::int64_t>> other_namespaces() {
  TRY(const auto own, mount_namespace_of("self"));
  const DirectoryStream stream{::opendir("/proc")};
  if (!stream) {
    return errno_error(errno, "listing /proc");
  }
  std::map<std::uint64_t, std::int64_t> lowest;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name{static_cast<const char*>(entry->d_name)};
    std::int64_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec != std::errc{} || parsed.ptr != name.data() + name.size()) {
      continue;
    }
    const auto its_own = mount_namespace_of(name);
    if (!its_own || its_own.value() == own) {
      continue;  // ended meanwhile, or nothing foreign
    }
    const auto [known, added] = lowest.try_emplace(its_own.value(), pid);
    if (!added) {
      known->second = std::min(known->second, pid);
    }
  }
  return lowest;
}

}  // namespace

bool has_option(const std::string& options, const std::string& option) {
  return ("," + options + ",").find("," + option + ",") != std::string::npos;
}

bool is_of_device(const MountEntry& entry, const Device& device) {
  if (entry.device == device.number) {
    return true;
  }
  // A btrfs has an anonymous number of its own; its source is the node's path, as whoever mounted it wrote it.
  struct stat source{};
  return entry.fs_type == "btrfs" && (entry.source == device.path || (::stat(entry.source.c_str(), &source) == 0 &&
                                                                      S_ISBLK(source.st_mode) && source.st_rdev == device.number));
}

Result<std::vector<MountEntry>> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  if (text.empty()) {
    return entries;
  }
  const Table table{::mnt_new_table()};
  const Iterator iterator{::mnt_new_iter(MNT_ITER_FORWARD)};
  // fmemopen doesn't write to what is opened for reading.
  const Stream stream{::fmemopen(const_cast<char*>(text.data()), text.size(), "r")};
  if (!table || !iterator || !stream) {
    return make_error(ErrorCode::internal, "no memory to parse a mount table");
  }
  int bad_line = 0;
  ::mnt_table_set_userdata(table.get(), &bad_line);
  ::mnt_table_set_parser_errcb(table.get(), refuse_line);
  if (const int result = ::mnt_table_parse_stream(table.get(), stream.get(), "mountinfo"); result != 0 || bad_line != 0) {
    return make_error(ErrorCode::internal, "the mount table can't be read: line " + std::to_string(bad_line) + " is malformed");
  }
  entries.reserve(static_cast<std::size_t>(std::max(0, ::mnt_table_get_nents(table.get()))));
  libmnt_fs* line = nullptr;
  while (::mnt_table_next_fs(table.get(), iterator.get(), &line) == 0) {
    entries.push_back({.id = static_cast<std::uint64_t>(::mnt_fs_get_id(line)),
                       .parent = static_cast<std::uint64_t>(::mnt_fs_get_parent_id(line)),
                       .device = ::mnt_fs_get_devno(line),
                       .root = text_of(::mnt_fs_get_root(line)),
                       .mount_point = text_of(::mnt_fs_get_target(line)),
                       .options = text_of(::mnt_fs_get_vfs_options(line)),
                       .fs_type = text_of(::mnt_fs_get_fstype(line)),
                       .source = text_of(::mnt_fs_get_source(line)),
                       .super_options = text_of(::mnt_fs_get_fs_options(line))});
  }
  return entries;
}

Result<std::vector<MountEntry>> read_mount_table() {
  TRY(const auto text, read_kernel_file("/proc/self/mountinfo"));
  return parse_mountinfo(text);
}

Result<std::vector<Pin>> find_pins(const Device& device) {
  TRY(const auto namespaces, other_namespaces());
  std::vector<Pin> pins;
  for (const auto& [name_space, pid] : namespaces) {
    const std::string process = "/proc/" + std::to_string(pid);
    const auto text = read_kernel_file(process + "/mountinfo");
    if (!text) {
      continue;  // the process ended; a namespace that others keep is found by them at the next look
    }
    TRY(const auto table, parse_mountinfo(text.value()));
    for (const auto& entry : table) {
      if (is_of_device(entry, device)) {
        const auto command = read_kernel_file(process + "/comm");
        pins.push_back({.pid = pid,
                        .command = command ? command.value() : std::string{},
                        .mount_point = entry.mount_point,
                        .mount_namespace = name_space});
      }
    }
  }
  return pins;
}

}  // namespace ordinald::mount
