#include "agent/undo_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "agent/durable_file.hpp"
#include "mount/crash_point.hpp"
#include "mount/files.hpp"
#include "mount/superblock.hpp"
#include "mount/tool_namespace.hpp"
#include "mount/unique_fd.hpp"
#include "mount/units.hpp"

namespace ordinald::agent {
namespace {

using mount::ToolOutcome;
using mount::UndoMode;

constexpr std::string_view undo_ending = ".e2undo";

struct UndoFile {
  std::string name;
  std::string boot_id;
  bool growth = false;
};

std::string undo_directory(const Core& core) { return core.config.state_dir + "/undo"; }

/// nullopt: none of this volume's. Its id may have dots in it, the rest has none.
std::optional<UndoFile> parse(const std::string& name, const std::string& id) {
  std::string_view rest = name;
  if (!rest.starts_with(id + ".") || !rest.ends_with(undo_ending)) {
    return std::nullopt;
  }
  rest.remove_prefix(id.size() + 1);
  rest.remove_suffix(undo_ending.size());
  const std::size_t dot = rest.find('.');
  const std::string_view kind = dot == std::string_view::npos ? std::string_view{} : rest.substr(dot + 1);
  if (kind != "check" && kind != "growth") {
    return std::nullopt;
  }
  return UndoFile{.name = name, .boot_id = std::string{rest.substr(0, dot)}, .growth = kind == "growth"};
}

Result<std::vector<UndoFile>> files_of(const Core& core, const std::string& id) {
  std::vector<UndoFile> files;
  std::error_code error;
  for (std::filesystem::directory_iterator at{undo_directory(core), error}, end; !error && at != end; at.increment(error)) {
    if (auto file = parse(at->path().filename(), id)) {
      files.push_back(std::move(*file));
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {  // the directory is made when it is needed first
    return mount::errno_error(error.value(), "looking for interrupted tools in " + undo_directory(core));
  }
  return files;
}

std::string path_in_tool(const std::string& name) { return std::string{mount::scratch_in_tool} + "/" + name; }

/// Bytes that it may take, amply: of a check what the journal writes over, of a growth the descriptors (measured: 6 MiB from 100 to 200
/// GiB).
std::uint64_t room_for(UndoOf what, std::uint64_t device_size) {
  constexpr std::uint64_t largest_journal = 1024 * mount::mib;
  return 4 * mount::mib + (what == UndoOf::growth ? device_size / 4096 : std::min(device_size / 16, largest_journal));
}

/// nullopt: it can't be told.
std::optional<std::uint64_t> free_room(const std::string& directory) {
  struct statvfs status{};
  if (::statvfs(directory.c_str(), &status) != 0 || status.f_blocks == 0) {
    return std::nullopt;
  }
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

/// Makes it, empty, with room that nobody else can take; the tools keep what is there. As much must be left to the others: the pool may be
/// on the same file system.
Result<void> reserve(const std::string& directory, const std::string& name, std::uint64_t room) {
  const std::string path = directory + "/" + name;
  const auto none = [&](std::uint64_t free) -> Result<void> {
    return mount::make_error(ErrorCode::resource_exhausted, "what a tool overwrites may take " + std::to_string(room) + " bytes in " +
                                                                directory + ", where " + std::to_string(free) +
                                                                " are free: make room there, twice that");
  };
  const auto free = free_room(directory);
  if (free && *free < 2 * room) {
    return none(*free);
  }
  const mount::UniqueFd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!fd) {
    return mount::errno_error(errno, "making " + path);
  }
  mount::acted("making", path);
  if (::fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(room)) != 0 && errno != EOPNOTSUPP) {
    const int error = errno;
    ::unlink(path.c_str());
    return error == ENOSPC ? none(free.value_or(0)) : mount::errno_error(error, "reserving room for " + path);
  }
  return mount::success();
}

/// How it may be put back; nullopt: not at all.
std::optional<UndoMode> judge(const Core& core, const UndoFile& file, const mount::Ext4Past& kept, const mount::Ext4Past& now) {
  if (kept.mounted.empty() || kept.mounted != now.mounted) {
    return std::nullopt;
  }
  if (file.boot_id != core.boot_id) {
    return file.growth ? std::optional{UndoMode::matching} : std::nullopt;
  }
  const bool untouched = file.growth && kept.checked == now.checked;
  return now.torn || untouched ? std::optional{UndoMode::forced} : std::nullopt;
}

/// True: it was put back.
Result<bool> put_back(mount::Kernel& kernel, const mount::ToolRequest& tool, const std::string& name, UndoMode mode) {
  mount::ToolRequest request = tool;
  request.argv = mount::find_filesystem("ext4")->undo_argv(tool.device.path, path_in_tool(name), mode);
  TRY(const ToolOutcome outcome, kernel.run_tool(request));
  if (outcome.exit_status == 1 && outcome.signal == 0 && !outcome.timed_out) {
    return false;
  }
  TRYV(mount::judge_tool("taking back what was interrupted on " + tool.device.path + ": " + request.argv.front(), outcome));
  return true;
}

}  // namespace

Result<std::string> begin_undo(const Core& core, const std::string& id, UndoOf what, mount::ToolRequest& request) {
  TRYV(mount::make_directories(undo_directory(core), 0700));
  TRYV(forget_undo(core, id));
  const std::string name = id + "." + core.boot_id + (what == UndoOf::growth ? ".growth" : ".check") + std::string{undo_ending};
  TRYV(reserve(undo_directory(core), name, room_for(what, request.device.size)));
  request.scratch = undo_directory(core);
  return path_in_tool(name);
}

bool may_have_left_out(const Core& core, const ToolOutcome& outcome) {
  const auto free = free_room(undo_directory(core));
  return (free && *free < mount::mib) || outcome.output.find("while writing block") != std::string::npos;
}

Result<bool> take_back_ended(const Core& core, mount::Kernel& kernel, const std::string& id, const mount::ToolRequest& tool) {
  bool back = false;
  TRY(const auto files, files_of(core, id));
  for (const UndoFile& file : files) {
    mount::ToolRequest request = tool;
    request.scratch = undo_directory(core);
    TRY(const bool usable, put_back(kernel, request, file.name, UndoMode::read_only));
    if (usable) {
      TRY(back, put_back(kernel, request, file.name, UndoMode::forced));
    }
  }
  TRYV(forget_undo(core, id));
  return back;
}

Result<bool> take_back(Core& core, mount::Kernel& kernel, VolumeRecord& record, const mount::ToolRequest& tool, const mount::Probe& probe) {
  bool changed = false;
  TRY(const auto files, files_of(core, record.id));
  if (probe.busy && !files.empty()) {
    return mount::make_error(ErrorCode::failed_precondition,
                             "a tool was interrupted amid its work on the filesystem, which has to be taken back first, and somebody has " +
                                 tool.device.path + " open or mounted: fuser -v " + tool.device.path + " and findmnt " + tool.device.path +
                                 " show who; once that has ended, the call can be repeated");
  }
  for (const UndoFile& file : files) {
    if (file.growth && record.fs_grown_for >= tool.device.size && !probe.ext4.torn) {
      continue;  // it had ended well
    }
    TRY(const mount::Ext4Past kept, mount::read_ext4_past_of_undo(undo_directory(core) + "/" + file.name));
    const auto mode = judge(core, file, kept, probe.ext4);
    mount::ToolRequest request = tool;
    request.scratch = undo_directory(core);
    bool back = false;
    if (mode == UndoMode::forced) {
      TRY(back, put_back(kernel, request, file.name, UndoMode::read_only));
    }
    if (mode && (back || mode == UndoMode::matching)) {
      TRY(back, put_back(kernel, request, file.name, *mode));
    }
    changed = changed || back;
    if (back && file.growth && record.fs_grown_for > 0) {
      record.fs_grown_for = 0;  // also where the growth had ended, and was recorded
      TRYV(core.records->save(record));
    }
    core.log->warn("volume {}: a {} of its filesystem was interrupted; {}", record.id, file.growth ? "growth" : "check",
                   back          ? "it is taken back, and made again"
                   : file.growth ? "it had not begun, or had ended, or somebody has worked on it since"
                                 : "the next one goes on from there");
  }
  TRYV(forget_undo(core, record.id));
  return changed;
}

Result<bool> has_undo(const Core& core, const std::string& id) {
  TRY(const auto files, files_of(core, id));
  return !files.empty();
}

Result<void> forget_undo(const Core& core, const std::string& id) {
  const std::string directory = undo_directory(core);
  bool durable = false;
  TRY(const auto files, files_of(core, id));
  for (const UndoFile& file : files) {
    const std::string path = directory + "/" + file.name;
    struct stat status{};
    durable = durable || ::stat(path.c_str(), &status) != 0 || status.st_size > 0;
    if (::unlink(path.c_str()) == 0) {
      mount::acted("removing", path);
    } else if (errno != ENOENT) {
      return mount::errno_error(errno, "removing " + path);
    }
  }
  // One that came back after a power loss would put old blocks over what was written since.
  return durable ? sync_directory(directory) : mount::success();
}

}  // namespace ordinald::agent
