#include "tests/support/temp.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "tests/support/leaks.hpp"

namespace ordinald::testing {

TempDir::TempDir(const std::string& what) {
  const char* base = ::getenv("TMPDIR");
  std::string name = std::string(base != nullptr && *base == '/' ? base : "/tmp") + "/ordinald-" + what + ".XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), "mkdtemp " + name);
  path_ = std::filesystem::canonical(name);
}

TempDir::~TempDir() {
  release_everything_beneath(path_);
  // Nothing is removed across a mount that could not be taken away: it could be somebody's data.
  if (!mounts_beneath(path_).empty()) {
    std::fprintf(stderr, "%s is left behind: something is still mounted beneath it\n", path_.c_str());
    return;
  }
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  if (error) std::fprintf(stderr, "%s is left behind: %s\n", path_.c_str(), error.message().c_str());
}

void release_everything_beneath(const std::filesystem::path& directory) {
  // Now, because a loop's file has no path any more once the mount that it lies on was taken away lazily.
  const std::vector<LoopDevice> loops = loops_beneath(directory);
  std::vector<std::string> mounts = mounts_beneath(directory);
  std::reverse(mounts.begin(), mounts.end());  // the table lists a mount after what it stands on
  for (const std::string& mount : mounts) {
    if (::umount2(mount.c_str(), UMOUNT_NOFOLLOW) != 0 && ::umount2(mount.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) != 0)
      std::fprintf(stderr, "can't unmount %s: %s\n", mount.c_str(), std::generic_category().message(errno).c_str());
  }
  for (const LoopDevice& loop : loops) {
    const int fd = ::open(loop.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    ::ioctl(fd, LOOP_CLR_FD, 0);
    ::close(fd);
  }
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content;
  std::vector<char> part(std::size_t{1} << 20);  // images are read too
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0)
    content.append(part.data(), static_cast<std::size_t>(file.gcount()));
  if (!file.eof()) throw std::runtime_error("can't read " + path.string());
  return content;
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.flush();
  if (!file) throw std::runtime_error("can't write " + path.string());
}

}  // namespace ordinald::testing
