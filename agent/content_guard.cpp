#include "agent/content_guard.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "mount/crash_point.hpp"
#include "mount/files.hpp"
#include "mount/tool_namespace.hpp"

namespace ordinald::agent {
namespace {

using mount::Device;
using mount::Filesystem;
using mount::Kernel;
using mount::Pool;
using mount::Probe;
using mount::Signature;

constexpr std::uint64_t mebibyte = std::uint64_t{1024} * 1024;

std::string describe(const Probe& probe) {
  std::string text;
  for (const Signature& signature : probe.signatures) {
    text += text.empty() ? "" : ", ";
    text += signature.type + " (" + signature.usage + (signature.uuid.empty() ? "" : ", UUID " + signature.uuid) + ")";
  }
  return text.empty() ? probe.not_blank_reason : text;
}

std::string undo_directory(const Core& core) { return core.config.state_dir + "/undo"; }
std::string undo_name(const std::string& id) { return id + ".e2undo"; }

bool is_ours(const Signature& signature, const VolumeRecord& record) {
  return signature.usage == "filesystem" && signature.type == record.fs_type && signature.uuid == record.fs_uuid;
}

/// One volume's content, worked on under its lock.
class Guard {
 public:
  Guard(Core& core, Kernel& kernel, const Pool& pool, VolumeRecord& record, const Device& device, const Filesystem& filesystem)
      : core_(core), kernel_(kernel), pool_(pool), record_(record), device_(device), filesystem_(filesystem) {}

  Result<ReadyFilesystem> make() {
    // The options were checked at Create against the filesystem asked for there; the capability may ask for another.
    auto options = filesystem_.mkfs_options(record_.mkfs_options);
    if (!options) {
      return refuse(options.error().message);
    }
    if (device_.size < filesystem_.minimum_size()) {
      return refuse(std::string{filesystem_.name()} + " needs at least " + std::to_string(filesystem_.minimum_size()) + " bytes, it has " +
                    std::to_string(device_.size));
    }
    if (record_.content == Content::formatting) {
      TRYV(clear_half_made());
    }
    TRYV(prove_blank());
    record_.content = Content::formatting;
    record_.fs_type = filesystem_.name();
    record_.fs_uuid = make_uuid();
    TRYV(core_.records->save(record_));
    TRYV(
        run("making the filesystem", filesystem_.make_argv({.device = device_.path, .uuid = record_.fs_uuid, .options = options.value()})));
    record_.content = Content::formatted;
    record_.fs_grown_for = device_.size;
    TRYV(core_.records->save(record_));
    core_.log->info("volume {}: made {} with UUID {} on {}", record_.id, record_.fs_type, record_.fs_uuid, device_.path);
    return ReadyFilesystem{.uuid = record_.fs_uuid, .alive = false, .may_grow = false};
  }

  Result<ReadyFilesystem> use() {
    TRY(const bool had_grown, take_back_growth());
    TRY(const Probe probe, kernel_.probe({.device = device_, .proof = mount::BlankProof::none, .image = {}}));
    TRY(std::string uuid, recognise(probe));
    ReadyFilesystem ready{.uuid = std::move(uuid), .alive = probe.busy, .may_grow = false};
    const bool smaller = probe.filesystem_size > 0 && probe.filesystem_size < device_.size && record_.fs_grown_for < device_.size;
    if (probe.filesystem_size >= device_.size && record_.fs_grown_for < device_.size) {
      // It was used as raw block since, or the record was made anew: what is on the device tells.
      record_.fs_grown_for = device_.size;
      TRYV(core_.records->save(record_));
    }
    const bool grows_mounted = filesystem_.grow_argv(device_.path, {}).empty() || core_.grows_mounted_ext4;
    if (!probe.busy) {
      const bool grow_now = smaller && !grows_mounted;
      TRYV(check(grow_now ? filesystem_.whole_check_argv(device_.path) : filesystem_.check_argv(device_.path)));
      if (had_grown) {
        TRYV(forget_growth(core_, record_.id));
      }
      if (grow_now) {
        TRYV(mount::make_directories(undo_directory(core_), 0700));
        TRY(const mount::ToolOutcome grown, kernel_.run_tool(tool_with_undo(filesystem_.grow_argv(device_.path, undo_in_tool()))));
        TRYV(mount::judge_tool("growing the filesystem on " + device_.path + ": resize2fs", grown));
        record_.fs_grown_for = device_.size;
        TRYV(core_.records->save(record_));
        TRYV(forget_growth(core_, record_.id));
        core_.log->info("volume {}: {} grown to {} bytes while unmounted", record_.id, filesystem_.name(), device_.size);
      }
    }
    ready.may_grow = smaller && grows_mounted;
    return ready;
  }

 private:
  [[nodiscard]] std::string undo_in_tool() const { return std::string{mount::scratch_in_tool} + "/" + undo_name(record_.id); }

  /// A growth that died amid its writes is taken back before anything else is believed of the filesystem: of most such states a check alone
  /// makes nothing. True: there was one. Whether the tool did it or refused (it had not begun, or had ended), the check tells what is
  /// there.
  Result<bool> take_back_growth() {
    const std::vector<std::string> argv = filesystem_.undo_argv(device_.path, undo_in_tool());
    const std::string file = undo_directory(core_) + "/" + undo_name(record_.id);
    if (argv.empty() || ::access(file.c_str(), F_OK) != 0) {
      return false;
    }
    TRY(const mount::ToolOutcome outcome, kernel_.run_tool(tool_with_undo(argv)));
    if (outcome.exit_status != 0 && outcome.exit_status != 1) {
      TRYV(mount::judge_tool("taking back a growth that was interrupted on " + device_.path + ": " + argv.front(), outcome));
    }
    if (outcome.exit_status == 0) {
      record_.fs_grown_for = 0;  // also where the growth had ended, and was recorded
      TRYV(core_.records->save(record_));
    }
    core_.log->warn("volume {}: a growth of its filesystem was interrupted; {}", record_.id,
                    outcome.exit_status == 0 ? "it is taken back, and made again" : "it had not begun, or had ended");
    return true;
  }

  Result<std::string> recognise(const Probe& probe) const {
    const std::string device = device_.path;
    const bool raw = record_.content == Content::raw;
    if (probe.signatures.size() == 1) {
      const Signature& found = probe.signatures.front();
      const bool right = raw ? found.usage == "filesystem" && found.type == filesystem_.name() : is_ours(found, record_);
      if (right) {
        return found.uuid;
      }
    }
    if (raw) {
      return refuse("it was used as a raw block device, so it is never formatted; asked for " + std::string{filesystem_.name()} +
                    ", found on " + device + ": " + (probe.signatures.empty() ? "no filesystem" : describe(probe)));
    }
    return refuse("its record says " + record_.fs_type + " with UUID " + record_.fs_uuid + ", but found on " + device + ": " +
                  (probe.signatures.empty() ? "no filesystem at all" : describe(probe)) +
                  "; it is not mounted and nothing is changed: put the volume's own data back, or look with blkid -p " + lasting_path());
  }

  Result<void> clear_half_made() {
    TRY(const Probe probe, kernel_.probe({.device = device_, .proof = mount::BlankProof::none, .image = {}}));
    if (probe.busy) {
      return refuse("a format of " + device_.path + " was begun and something still has the device open; see fuser -v " + device_.path);
    }
    for (const Signature& signature : probe.signatures) {
      if (!is_ours(signature, record_)) {
        return refuse("a format with UUID " + record_.fs_uuid + " was begun, but found on " + device_.path + ": " + describe(probe) +
                      "; it is not formatted: if nobody needs what is there, delete the volume and make a new one");
      }
    }
    core_.log->info("volume {}: a format was interrupted; {} is emptied and made again", record_.id, device_.path);
    return kernel_.erase(device_, pool_.thick());
  }

  Result<void> prove_blank() {
    TRY(const Probe probe, kernel_.probe(pool_.blank_probe(pool_volume(record_), device_)));
    if (probe.busy) {
      return refuse("something has " + device_.path + " open, so it can't be proven blank; see fuser -v " + device_.path);
    }
    if (!probe.blank) {
      return refuse("it should be blank, but found on " + device_.path + ": " + describe(probe) +
                    "; it is not formatted: if nobody needs what is there, delete the volume and make a new one");
    }
    return mount::success();
  }

  /// Of a thin image on a full file system a tool sees no more than an I/O error.
  Error unless_full(const Error& error) { return explain_full_pool(kernel_, pool_, device_, error); }

  Result<void> check(const std::vector<std::string>& argv) {
    if (argv.empty()) {
      return mount::success();
    }
    TRY(const mount::ToolOutcome outcome, kernel_.run_tool(tool(argv)));
    auto verdict = mount::judge_check(filesystem_, device_.path, lasting_path(), outcome);
    if (verdict && outcome.exit_status != 0) {
      core_.log->warn("volume {}: the check of {} corrected errors", record_.id, device_.path);
    }
    if (!verdict) {
      return unless_full(verdict.error());
    }
    return verdict;
  }

  Result<void> run(std::string_view what, const std::vector<std::string>& argv) {
    TRY(const mount::ToolOutcome outcome, kernel_.run_tool(tool(argv)));
    auto verdict = mount::judge_tool(std::string{what} + " on " + device_.path + ": " + argv.front(), outcome);
    if (!verdict) {
      return unless_full(verdict.error());
    }
    return verdict;
  }

  [[nodiscard]] mount::ToolRequest tool(const std::vector<std::string>& argv) const {
    return mount::ToolRequest{.argv = argv,
                              .device = device_,
                              .deadline = core_.config.tool_timeout,
                              .memory = core_.config.tool_memory_mib * mebibyte,
                              .scratch = {}};
  }
  [[nodiscard]] mount::ToolRequest tool_with_undo(const std::vector<std::string>& argv) const {
    mount::ToolRequest request = tool(argv);
    request.scratch = undo_directory(core_);
    return request;
  }

  /// A refused stage lets go of the device: what a person is told to run works on what stays.
  [[nodiscard]] std::string lasting_path() const { return pool_.lasting_path(pool_volume(record_)); }

  static Error refuse(const std::string& message) { return mount::make_error(ErrorCode::failed_precondition, message); }

  Core& core_;
  Kernel& kernel_;
  const Pool& pool_;
  VolumeRecord& record_;
  const Device& device_;
  const Filesystem& filesystem_;
};

}  // namespace

Error explain_full_pool(Kernel& kernel, const Pool& pool, const Device& device, const Error& error) {
  constexpr std::uint64_t next_to_nothing = 16ULL * 1024 * 1024;
  const auto usage = pool.thick() ? Result<mount::PoolUsage>{error} : pool.usage(kernel);
  if (!usage || usage.value().free >= std::min(next_to_nothing, device.size)) {
    return error;
  }
  return mount::make_error(ErrorCode::resource_exhausted, error.message + "; pool " + pool.name() + " is full (" +
                                                              std::to_string(usage.value().free) +
                                                              " bytes are free), so writing to the volume fails: make room there, and call "
                                                              "again");
}

Result<void> forget_growth(const Core& core, const std::string& id) {
  const std::string path = undo_directory(core) + "/" + undo_name(id);
  if (::unlink(path.c_str()) == 0) {
    mount::acted("removing", path);
  } else if (errno != ENOENT) {
    return mount::errno_error(errno, "removing " + path);
  }
  return mount::success();
}

Result<ReadyFilesystem> ready_filesystem(Core& core, Kernel& kernel, const Pool& pool, VolumeRecord& record, const Device& device,
                                         const Filesystem& filesystem) {
  Guard guard{core, kernel, pool, record, device, filesystem};
  const bool has_content = record.content == Content::formatted || record.content == Content::raw;
  return has_content ? guard.use() : guard.make();
}

Result<void> grow_mounted(Core& core, Kernel& kernel, VolumeRecord& record, const Device& device, const std::string& fs_type,
                          const std::string& path) {
  auto size = kernel.grow_filesystem({.device = device, .fs_type = fs_type, .path = path});
  if (!size) {
    return size.error().with_context("growing the " + fs_type + " at " + path);
  }
  record.fs_grown_for = device.size;
  TRYV(core.records->save(record));
  core.log->info("volume {}: {} at {} has {} bytes now", record.id, fs_type, path, size.value());
  return mount::success();
}

}  // namespace ordinald::agent
