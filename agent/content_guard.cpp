#include "agent/content_guard.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "agent/refuse.hpp"
#include "agent/undo_file.hpp"
#include "mount/units.hpp"

namespace ordinald::agent {
namespace {

using mount::Device;
using mount::Filesystem;
using mount::Kernel;
using mount::Pool;
using mount::Probe;
using mount::Signature;

std::string list_signatures(const Probe& probe) {
  std::string text;
  for (const Signature& signature : probe.signatures) {
    text += text.empty() ? "" : ", ";
    text += signature.type + " (" + signature.usage + (signature.uuid.empty() ? "" : ", UUID " + signature.uuid) + ")";
  }
  return text.empty() ? probe.not_blank_reason : text;
}

bool is_ours(const Signature& signature, const VolumeRecord& record) {
  return signature.usage == "filesystem" && signature.type == record.fs_type && signature.uuid == record.fs_uuid;
}

/// One volume's content, worked on under its lock.
class Guard {
 public:
  Guard(Core& core, Kernel& kernel, const Pool& pool, VolumeRecord& record, const Device& device, const Filesystem& filesystem)
      : core_(core), kernel_(kernel), pool_(pool), record_(record), device_(device), filesystem_(filesystem) {}

  Result<ReadyFilesystem> make() {
    TRY(const auto options, make_options(record_, filesystem_, device_.size));
    if (record_.content == Content::formatting) {
      TRYV(clear_half_made());
    }
    TRYV(prove_blank());
    record_.content = Content::formatting;
    record_.fs_type = filesystem_.name();
    record_.fs_uuid = make_uuid();
    TRYV(core_.records->save(record_));
    TRYV(run("making the filesystem", filesystem_.make_argv({.device = device_.path, .uuid = record_.fs_uuid, .options = options})));
    record_.content = Content::formatted;
    record_.fs_grown_for = device_.size;
    TRYV(core_.records->save(record_));
    core_.log->info("volume {}: made {} with UUID {} on {}", record_.id, record_.fs_type, record_.fs_uuid, device_.path);
    return ReadyFilesystem{.uuid = record_.fs_uuid, .alive = false, .may_grow = false};
  }

  Result<ReadyFilesystem> use() {
    TRY(Probe probe, look());
    TRY(const bool taken_back, take_back(core_, kernel_, record_, tool(), probe));
    if (taken_back) {
      TRY(probe, look());
    }
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
      TRYV(check(grow_now, grow_now || probe.ext4.unclean));
      if (grow_now) {
        TRY(ready.no_growth, grow(ready.uuid));
      }
    }
    ready.may_grow = smaller && grows_mounted;
    return ready;
  }

 private:
  Result<Probe> look() { return kernel_.probe({.device = device_, .proof = mount::BlankProof::none, .image = {}}); }

  /// Why it could not be grown, and is as it was before; empty: it is grown.
  Result<std::string> grow(const std::string& uuid) {
    mount::ToolRequest request = tool();
    const auto undo = begin_undo(core_, record_.id, UndoOf::growth, request);
    if (!undo) {
      return undo.error().message;
    }
    request.argv = filesystem_.grow_argv(device_.path, undo.value());
    const auto grown = kernel_.run_tool(request);
    if (!grown && grown.error().code == ErrorCode::unavailable && grown.error().sys_errno != EPIPE) {
      return grown.error();  // it may still be going on; EPIPE: its worker has died, and the next one begins when the tool is gone
    }
    const std::string what = "growing the filesystem on " + device_.path + ": resize2fs";
    if (const auto verdict = grown ? mount::judge_tool(what, grown.value()) : Result<void>{grown.error()}; !verdict) {
      const Error failure = unless_full(verdict.error());
      TRYV(be_as_before(uuid, failure, grown && may_have_left_out(core_, grown.value())));
      return failure.message;
    }
    record_.fs_grown_for = device_.size;
    TRYV(core_.records->save(record_));
    TRYV(forget_undo(core_, record_.id));
    core_.log->info("volume {}: {} grown to {} bytes while unmounted", record_.id, filesystem_.name(), device_.size);
    return std::string{};
  }

  /// After a growth that failed, though nothing is wrong with the filesystem: a database need not wait for more room. The failure itself,
  /// where that can't be had: what the growth did is not taken back, or the check finds something. A growth marks the superblock before it
  /// writes anything else.
  Result<void> be_as_before(const std::string& uuid, const Error& failure, bool undo_left_out) {
    const auto as_before = [&]() -> Result<void> {
      TRY(const bool back, take_back_ended(core_, kernel_, record_.id, tool()));
      TRY(const Probe probe, look());
      TRY(const std::string found, recognise(probe));
      if (undo_left_out || found != uuid || probe.ext4.torn || (!back && probe.ext4.unclean)) {
        return refuse("what it did can't be taken back");
      }
      return check(true, true);
    };
    if (auto result = as_before(); !result) {
      Error told = failure;
      told.code = result.error().code == ErrorCode::unavailable ? ErrorCode::unavailable : told.code;
      told.message += "; and then: " + result.error().message;
      return told;
    }
    return mount::success();
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
                    ", found on " + device + ": " + (probe.signatures.empty() ? "no filesystem" : list_signatures(probe)));
    }
    return refuse("its record says " + record_.fs_type + " with UUID " + record_.fs_uuid + ", but found on " + device + ": " +
                  (probe.signatures.empty() ? "no filesystem at all" : list_signatures(probe)) +
                  "; it is not mounted and nothing is changed: put the volume's own data back, or look with blkid -p " + lasting_path());
  }

  Result<void> clear_half_made() {
    TRY(const Probe probe, look());
    if (probe.busy) {
      return refuse("a format of " + device_.path + " was begun and something still has the device open; see fuser -v " + device_.path);
    }
    for (const Signature& signature : probe.signatures) {
      if (!is_ours(signature, record_)) {
        return refuse("a format with UUID " + record_.fs_uuid + " was begun, but found on " + device_.path + ": " + list_signatures(probe) +
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
      return refuse("it should be blank, but found on " + device_.path + ": " + list_signatures(probe) +
                    "; it is not formatted: if nobody needs what is there, delete the volume and make a new one");
    }
    return mount::success();
  }

  /// Of a thin image on a full file system a tool sees no more than an I/O error.
  Error unless_full(const Error& error) { return explain_full_pool(kernel_, pool_, device_, error); }

  /// `writes`: the check will have something to write. What it overwrites is kept then, which costs it some fsyncs.
  Result<void> check(bool whole, bool writes) {
    const auto argv = [&](const std::string& undo) {
      return whole ? filesystem_.whole_check_argv(device_.path, undo) : filesystem_.check_argv(device_.path, undo);
    };
    if (argv({}).empty()) {
      return mount::success();
    }
    mount::ToolRequest request = tool();
    std::string undo;
    if (writes) {
      if (auto begun = begin_undo(core_, record_.id, UndoOf::check, request)) {
        undo = std::move(begun).value();
      } else {
        core_.log->warn("volume {}: it is checked, though a check that dies can't be taken back: {}", record_.id, begun.error().message);
      }
    }
    request.argv = argv(undo);
    TRY(mount::ToolOutcome outcome, kernel_.run_tool(request));
    constexpr int errors_left = 4;
    constexpr int operational_error = 8;
    const bool failed = (outcome.exit_status & (errors_left | operational_error)) != 0;
    if (!undo.empty() && outcome.signal == 0 && !outcome.timed_out && (failed || may_have_left_out(core_, outcome))) {
      // It may be the undo file that was in trouble, such as for want of room. Without one, then, and from where it began.
      TRYV(take_back_ended(core_, kernel_, record_.id, tool()));
      request = tool();
      request.argv = argv({});
      TRY(outcome, kernel_.run_tool(request));
    }
    if (!undo.empty() && outcome.signal == 0 && !outcome.timed_out) {
      TRYV(forget_undo(core_, record_.id));  // also before it is left to a person
    }
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
    mount::ToolRequest request = tool();
    request.argv = argv;
    TRY(const mount::ToolOutcome outcome, kernel_.run_tool(request));
    std::string on_device{what};  // GCC 12 warns of a sum's bounds here
    on_device.append(" on ").append(device_.path).append(": ").append(argv.front());
    auto verdict = mount::judge_tool(on_device, outcome);
    if (!verdict) {
      return unless_full(verdict.error());
    }
    return verdict;
  }

  [[nodiscard]] mount::ToolRequest tool() const { return tool_on(core_, device_); }

  /// A refused stage lets go of the device: what a person is told to run works on what stays.
  [[nodiscard]] std::string lasting_path() const { return pool_.lasting_path(pool_volume(record_)); }

  Core& core_;
  Kernel& kernel_;
  const Pool& pool_;
  VolumeRecord& record_;
  const Device& device_;
  const Filesystem& filesystem_;
};

}  // namespace

const std::string& wanted_fs_type(const VolumeRecord& record, const csi::Capability& capability) {
  return capability.fs_type.empty() ? record.fs_type : capability.fs_type;
}

Result<void> check_mount(const VolumeRecord& record, const Pool& pool, const std::string& fs_type, const mount::MountFlags& flags,
                         bool read_only) {
  if (mount::find_filesystem(fs_type) == nullptr) {
    return refuse("filesystem \"" + fs_type + "\" is not known; ext4, xfs and btrfs are");
  }
  if (record.content == Content::formatted && record.fs_type != fs_type) {
    return refuse("it holds " + record.fs_type + ", asked for " + fs_type);
  }
  if (record.content != Content::formatted && record.content != Content::raw && read_only) {
    return refuse("it is blank, and asked for reading only: write to it first");
  }
  for (std::size_t i = 0; i < flags.options.size(); ++i) {
    static constexpr std::array others{"device", "journal_dev", "journal_path", "logdev", "rtdev", "source"};
    const std::string key = flags.options[i].substr(0, flags.options[i].find('='));
    if (std::ranges::find(others, key) != others.end()) {
      // A volume is one device, whose identity is proven; nothing is known of any other.
      return refuse("mount_flags[" + std::to_string(flags.places[i]) + "] names another device, which is no part of the volume");
    }
  }
  if (pool.thick() && mount::has_option(flags, "discard")) {
    return refuse("a mount flag asks for discard, which would make this thick volume thin");
  }
  return mount::success();
}

Result<std::vector<std::string>> make_options(const VolumeRecord& record, const Filesystem& filesystem, std::uint64_t size) {
  // They were checked at Create against the filesystem asked for there; the capability may ask for another.
  auto options = filesystem.mkfs_options(record.mkfs_options, record.block_size);
  if (!options) {
    return refuse(options.error().message);
  }
  if (size < filesystem.minimum_size()) {
    return refuse(std::string{filesystem.name()} + " needs at least " + std::to_string(filesystem.minimum_size()) + " bytes, it has " +
                  std::to_string(size));
  }
  return options;
}

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

mount::ToolRequest tool_on(const Core& core, const Device& device) {
  return mount::ToolRequest{.argv = {},
                            .device = device,
                            .deadline = core.config.tool_timeout,
                            .memory = core.config.tool_memory_mib * mount::mib,
                            .scratch = {}};
}

Result<ReadyFilesystem> ready_filesystem(Core& core, Kernel& kernel, const Pool& pool, VolumeRecord& record, const Device& device,
                                         const Filesystem& filesystem) {
  Guard guard{core, kernel, pool, record, device, filesystem};
  const bool has_content = record.content == Content::formatted || record.content == Content::raw;
  return has_content ? guard.use() : guard.make();
}

void note_growth(Core& core, const std::string& id, const std::string& failure) {
  VolumeState state = core.ledger->state(id);
  if (std::exchange(state.no_growth, failure) == failure) {
    return;
  }
  if (auto saved = core.ledger->keep(id, state); !saved) {
    core.log->warn("{}", saved.error().message);
  }
}

Result<void> grow_mounted(Core& core, Kernel& kernel, VolumeRecord& record, const Device& device, const std::string& fs_type,
                          const std::string& path) {
  auto size = kernel.grow_filesystem({.device = device, .fs_type = fs_type, .path = path});
  if (!size) {
    Error failure = size.error().with_context("growing the " + fs_type + " at " + path);
    if (failure.code != ErrorCode::unavailable) {
      note_growth(core, record.id, failure.message);
    }
    return failure;
  }
  note_growth(core, record.id, {});
  record.fs_grown_for = device.size;
  TRYV(core.records->save(record));
  core.log->info("volume {}: {} at {} has {} bytes now", record.id, fs_type, path, size.value());
  return mount::success();
}

}  // namespace ordinald::agent
