#pragma once

#include <memory>
#include <mutex>

#include "mount/pool.hpp"
#include "mount/pool_lock.hpp"

namespace ordinald::mount {

/// A pool of image files on loop devices: `<directory>/<volume id>.img`, each marked with its volume's id in an extended attribute.
/// Thick images are allocated whole by fallocate(2), again at each attach.
class ImagePool final : public Pool {
 public:
  struct Settings {
    std::string name;
    std::string directory;  ///< absolute
    bool thick = false;
  };
  explicit ImagePool(Settings settings);

  [[nodiscard]] const std::string& name() const override { return settings_.name; }
  [[nodiscard]] bool thick() const override { return settings_.thick; }
  [[nodiscard]] std::uint64_t round_up(std::uint64_t bytes, std::uint32_t block_size) const override;
  [[nodiscard]] ProbeRequest blank_probe(const PoolVolume& volume, const Device& device) const override;

  Result<void> prepare() const override;
  Result<std::string> mark(Kernel& kernel) const override;
  Result<std::string> set_mark(Kernel& kernel, const std::string& mark) const override;
  Result<void> claim(Kernel& kernel) const override;
  Result<PoolUsage> usage(Kernel& kernel) const override;
  Result<void> create(Kernel& kernel, const PoolVolume& volume) const override;
  Result<void> adopt(Kernel& kernel, const PoolVolume& volume, const std::string& source, const Survey& found) const override;
  Result<void> relabel(Kernel& kernel, const PoolVolume& volume) const override;
  Result<void> remove(Kernel& kernel, const PoolVolume& volume) const override;
  Result<void> grow(Kernel& kernel, const PoolVolume& volume) const override;
  Result<Device> attach(Kernel& kernel, const PoolVolume& volume) const override;
  Result<std::optional<Device>> find_attached(Kernel& kernel, const PoolVolume& volume) const override;
  Result<PoolBacking> backing(Kernel& kernel, const PoolVolume& volume) const override;
  Result<std::vector<PoolFinding>> examine(Kernel& kernel, const PoolVolume& volume, const std::optional<Device>& attached) const override;
  [[nodiscard]] std::string lasting_path(const PoolVolume& volume) const override { return path(volume); }

  [[nodiscard]] const std::string& directory() const { return settings_.directory; }

 private:
  [[nodiscard]] ImageRef image(const PoolVolume& volume) const;
  [[nodiscard]] std::string path(const PoolVolume& volume) const;

  Settings settings_;
  mutable std::mutex mutex_;
  mutable PoolDirectory claimed_;  ///< its descriptor holds the lock
};

}  // namespace ordinald::mount
