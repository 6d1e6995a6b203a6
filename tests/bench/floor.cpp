#include "tests/bench/floor.hpp"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "mount/unique_fd.hpp"

namespace ordinald::bench {
namespace {

using mount::UniqueFd;

void require(bool good, const std::string& what) {
  if (!good) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
  }
}

UniqueFd open_file(const std::filesystem::path& path, int flags, mode_t mode = 0600) {
  UniqueFd fd{::open(path.c_str(), flags | O_CLOEXEC, mode)};
  require(static_cast<bool>(fd), "opening " + path.string());
  return fd;
}

}  // namespace

FloorVolume::FloorVolume(std::filesystem::path directory, const std::string& name, std::string fs_type, std::uint64_t size)
    : directory_(std::move(directory)),
      fs_type_(std::move(fs_type)),
      image_(directory_ / (name + ".img")),
      staging_(directory_ / (name + ".stage")),
      target_(directory_ / (name + ".target")),
      record_(directory_ / (name + ".json")) {
  const UniqueFd fd = open_file(image_, O_RDWR | O_CREAT | O_EXCL);
  require(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0, "making " + image_.string());
  std::filesystem::create_directory(staging_);
}

FloorVolume::~FloorVolume() {
  ::umount2(target_.c_str(), MNT_DETACH);
  ::umount2(staging_.c_str(), MNT_DETACH);
  if (!loop_.empty()) {
    const UniqueFd fd{::open(loop_.c_str(), O_RDONLY | O_CLOEXEC)};
    ::ioctl(fd.get(), LOOP_CLR_FD, 0);
  }
  std::error_code ignored;
  for (const auto& path : {image_, staging_, target_, record_}) {
    std::filesystem::remove(path, ignored);
  }
}

void FloorVolume::attach() {
  const UniqueFd control = open_file("/dev/loop-control", O_RDWR);
  const UniqueFd image = open_file(image_, O_RDWR);
  while (true) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE, 0);
    require(number >= 0, "a free loop device");
    loop_ = "/dev/loop" + std::to_string(number);
    const UniqueFd loop = open_file(loop_, O_RDWR);
    loop_config config{};
    config.fd = static_cast<__u32>(image.get());
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_DIRECT_IO;
    if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) {
      return;
    }
    require(errno == EBUSY, "LOOP_CONFIGURE");
  }
}

void FloorVolume::probe(bool blank_expected) const {
  const UniqueFd fd = open_file(loop_, O_RDONLY | O_EXCL);
  const std::unique_ptr<blkid_struct_probe, decltype([](blkid_probe p) { ::blkid_free_probe(p); })> probe{::blkid_new_probe()};
  require(probe && ::blkid_probe_set_device(probe.get(), fd.get(), 0, 0) == 0, "a probe of " + loop_);
  ::blkid_probe_enable_superblocks(probe.get(), 1);
  ::blkid_probe_enable_partitions(probe.get(), 1);
  bool found = false;
  while (::blkid_do_probe(probe.get()) == 0) {
    found = true;
  }
  if (found == blank_expected) {
    throw std::runtime_error("the floor found " + std::string{found ? "something" : "nothing"} + " on " + loop_);
  }
  if (blank_expected) {
    require(::fsync(fd.get()) == 0, "fsync of " + loop_);
    prove_blank();
  }
}

void FloorVolume::prove_blank() const {
  const UniqueFd fd = open_file(image_, O_RDONLY);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (::lseek(fd.get(), 0, SEEK_DATA) >= 0 || errno != ENXIO) {
    throw std::runtime_error("the floor's image has data");
  }
}

void FloorVolume::write_record(const char* content) const {
  const std::filesystem::path temporary = record_.string() + ".tmp";
  {
    const UniqueFd fd = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    // As long as the agent's.
    std::string text(700, ' ');
    text.replace(0, std::strlen(content), content);
    require(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()), "writing " + temporary.string());
    require(::fsync(fd.get()) == 0, "fsync of " + temporary.string());
  }
  require(::rename(temporary.c_str(), record_.c_str()) == 0, "renaming " + temporary.string());
  const UniqueFd directory = open_file(directory_, O_RDONLY | O_DIRECTORY);
  require(::fsync(directory.get()) == 0, "fsync of " + directory_.string());
}

void FloorVolume::run(std::initializer_list<std::string> argv) const {
  std::vector<std::string> words{argv};
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::array<char*, 1> environment{nullptr};
  pid_t pid = 0;
  errno = ::posix_spawn(&pid, pointers.front(), &actions, nullptr, pointers.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  require(errno == 0, "starting " + words.front());
  int status = 0;
  require(::waitpid(pid, &status, 0) == pid, "waiting for " + words.front());
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw std::runtime_error(words.front() + " failed on " + loop_);
  }
}

void FloorVolume::mount() const {
  require(::mount(loop_.c_str(), staging_.c_str(), fs_type_.c_str(), 0, nullptr) == 0, "mounting " + loop_);
}

void FloorVolume::stage_blank() {
  attach();
  probe(true);
  write_record("formatting");
  if (fs_type_ == "ext4") {
    run({"/usr/sbin/mkfs.ext4", "-q", "-E", "nodiscard,assume_storage_prezeroed=1", loop_});
  } else {
    run({"/usr/sbin/mkfs.xfs", "-q", "-K", loop_});
  }
  write_record("formatted");
  mount();
}

void FloorVolume::stage_used() {
  attach();
  probe(false);
  if (fs_type_ == "ext4") {
    run({"/usr/sbin/e2fsck", "-p", loop_});
  }
  mount();
}

void FloorVolume::publish() {
  require(::mkdir(target_.c_str(), 0750) == 0, "making " + target_.string());
  require(::mount(staging_.c_str(), target_.c_str(), nullptr, MS_BIND, nullptr) == 0, "binding " + target_.string());
}

void FloorVolume::unpublish() {
  require(::umount2(target_.c_str(), UMOUNT_NOFOLLOW) == 0, "unmounting " + target_.string());
  require(::rmdir(target_.c_str()) == 0, "removing " + target_.string());
}

void FloorVolume::unstage() {
  require(::umount2(staging_.c_str(), UMOUNT_NOFOLLOW) == 0, "unmounting " + staging_.string());
  const UniqueFd fd = open_file(loop_, O_RDONLY);
  require(::ioctl(fd.get(), LOOP_CLR_FD, 0) == 0, "LOOP_CLR_FD");
  loop_.clear();
}

}  // namespace ordinald::bench
