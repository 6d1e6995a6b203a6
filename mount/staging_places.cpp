#include "mount/staging_places.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <ctime>
#include <optional>
#include <span>

#include "mount/files.hpp"

namespace ordinald::mount {
namespace {

constexpr off_t most_data = 4096;  ///< kubelet's file has some 300 bytes

/// nullopt: no such place.
Result<std::optional<StagingPlace>> read_place(int directory, const std::string& name) {
  const auto place = open_beneath(directory, name, O_RDONLY | O_DIRECTORY);
  if (!place) {
    return place.error().code == ErrorCode::not_found ? Result<std::optional<StagingPlace>>{std::optional<StagingPlace>{}} : place.error();
  }
  bool has_mount_point = false;
  TRYV(each_entry(proc_path(place.value().get()), DT_DIR, [&](const std::string& entry) -> Result<void> {
    has_mount_point = has_mount_point || entry == "globalmount";
    return success();
  }));
  const auto file = open_beneath(place.value().get(), "vol_data.json", O_RDONLY | O_NONBLOCK);
  struct stat place_status{};
  struct stat file_status{};
  if (!has_mount_point || !file || ::fstat(place.value().get(), &place_status) != 0 || ::fstat(file.value().get(), &file_status) != 0 ||
      !S_ISREG(file_status.st_mode) || file_status.st_size > most_data) {
    return std::optional<StagingPlace>{};
  }
  StagingPlace found{.name = name, .age = std::max<std::int64_t>(0, std::time(nullptr) - place_status.st_mtime)};
  found.data.resize(static_cast<std::size_t>(file_status.st_size));
  TRY(const std::size_t size, read_at(file.value().get(), std::as_writable_bytes(std::span{found.data}), 0));
  found.data.resize(size);
  return std::optional{std::move(found)};
}

}  // namespace

Result<std::vector<StagingPlace>> list_staging_places(const std::string& directory) {
  std::vector<StagingPlace> places;
  const auto opened = open_directory(directory);
  if (!opened) {
    return opened.error().code == ErrorCode::not_found ? Result<std::vector<StagingPlace>>{std::move(places)} : opened.error();
  }
  TRYV(each_entry(proc_path(opened.value().get()), DT_DIR, [&](const std::string& name) -> Result<void> {
    TRY(auto place, read_place(opened.value().get(), name));
    if (place) {
      places.push_back(std::move(*place));
    }
    return success();
  }));
  std::ranges::sort(places, {}, &StagingPlace::name);
  return places;
}

}  // namespace ordinald::mount
