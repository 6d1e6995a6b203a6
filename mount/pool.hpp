#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mount/kernel.hpp"

namespace ordinald::mount {

/// What a pool needs to know of a volume.
struct PoolVolume {
  std::string id;
  std::uint64_t size = 0;  ///< bytes promised
  std::uint32_t block_size = 4096;
  std::string label{};  ///< create: kept beside what backs it, for the day when its record is lost
};

struct PoolBacking {
  std::uint64_t size = 0;
  std::string label{};  ///< as it was made with; empty: none
};

/// Something wrong with a volume, as its pool sees it.
struct PoolFinding {
  bool data_loss = false;  ///< else: can't be reached
  std::string reason;      ///< one CamelCase word
  std::string message;
};

/// Where volumes come from. Stateless but for its configuration and whether it is claimed; thread safe: each call works through the kernel
/// that it is given. Errors are the kernel's, with the pool's and the volume's name before them.
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  virtual ~Pool() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  /// Whether all space of a volume is taken at its creation.
  [[nodiscard]] virtual bool thick() const = 0;
  /// The size that a volume of `bytes` gets: rounded up only where the pool must.
  [[nodiscard]] virtual std::uint64_t round_up(std::uint64_t bytes, std::uint32_t block_size) const = 0;
  /// The strongest proof of blankness that it can give (rule 1).
  [[nodiscard]] virtual ProbeRequest blank_probe(const PoolVolume& volume, const Device& device) const = 0;

  /// Makes room for what the pool keeps: its directory.
  virtual Result<void> prepare() const = 0;
  /// The mark of where it keeps things now, by which that is told from another place of the same name. Empty: it has none.
  virtual Result<std::string> mark(Kernel& kernel) const = 0;
  /// Marks it so, durable, where it has no mark yet; answers the one that it has then.
  virtual Result<std::string> set_mark(Kernel& kernel, const std::string& mark) const = 0;
  /// Makes the pool this agent's, for as long as it lives. Every call that follows, but for find_attached, does that first where it is not
  /// so yet. failed_precondition: another agent has it, and which. unavailable: what it stands on hangs. Anything else that is wrong with
  /// it is told by the call that needs it.
  virtual Result<void> claim(Kernel& kernel) const = 0;
  virtual Result<PoolUsage> usage(Kernel& kernel) const = 0;
  virtual Result<void> create(Kernel& kernel, const PoolVolume& volume) const = 0;
  /// A file, as it was surveyed, becomes what backs the volume. failed_precondition with errno EXDEV: it would have to be copied.
  virtual Result<void> adopt(Kernel& kernel, const PoolVolume& volume, const std::string& source, const Survey& found) const = 0;
  /// Puts `volume.label` in the place of the one that is kept beside what backs it.
  virtual Result<void> relabel(Kernel& kernel, const PoolVolume& volume) const = 0;
  virtual Result<void> remove(Kernel& kernel, const PoolVolume& volume) const = 0;
  /// Grows what backs the volume to `volume.size`; an attached device is refreshed by the caller.
  virtual Result<void> grow(Kernel& kernel, const PoolVolume& volume) const = 0;
  /// The device, attached. failed_precondition: what backs it is missing or shorter than `volume.size`.
  virtual Result<Device> attach(Kernel& kernel, const PoolVolume& volume) const = 0;
  virtual Result<std::optional<Device>> find_attached(Kernel& kernel, const PoolVolume& volume) const = 0;
  /// Where a person finds the volume's bytes, attached or not: what a command for repair works on.
  [[nodiscard]] virtual std::string lasting_path(const PoolVolume& volume) const = 0;
  /// What backs the volume. not_found: nothing does here. failed_precondition: what has its place isn't its own.
  virtual Result<PoolBacking> backing(Kernel& kernel, const PoolVolume& volume) const = 0;
  /// What is wrong with what backs the volume, and, where it is attached, with its being what the device stands on; nothing when all is
  /// well.
  virtual Result<std::vector<PoolFinding>> examine(Kernel& kernel, const PoolVolume& volume,
                                                   const std::optional<Device>& attached) const = 0;
};

}  // namespace ordinald::mount
