#include "tests/mount/real_contract_node.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "mount/unique_fd.hpp"
#include "tests/support/cgroup.hpp"
#include "tests/support/mount_namespace.hpp"

namespace ordinald::testing {

using mount::UniqueFd;

namespace {

constexpr off_t raw_byte_offset = 4096;

void must(bool done, const std::string& what) {
  if (!done) {
    throw std::system_error{errno, std::generic_category(), what};
  }
}

/// Writes it all and makes it durable: errno, 0 when written.
int write_at(const std::string& path, int flags, off_t offset, std::string_view bytes) {
  const UniqueFd file{::open(path.c_str(), flags | O_WRONLY | O_CLOEXEC, 0644)};
  if (!file) {
    return errno;
  }
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
    if (written < 0) {
      return errno;
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += written;
  }
  return ::fsync(file.get()) == 0 ? 0 : errno;
}

/// An open file as a Hold.
Hold held(const std::string& path, int flags) {
  auto file = std::make_shared<UniqueFd>(::open(path.c_str(), flags | O_CLOEXEC));
  must(static_cast<bool>(*file), "opening " + path);
  return file;
}

std::string path_of(const mount::ImageRef& image) { return image.directory + "/" + image.file; }

}  // namespace

RealContractNode::RealContractNode() {
  for (const std::string& directory : {RealContractNode::pool(), RealContractNode::small_pool(), RealContractNode::work()}) {
    std::filesystem::create_directory(directory);
  }
  must(::mount("tmpfs", path("small").c_str(), "tmpfs", 0, "size=64m") == 0, "a tmpfs for the small pool");
}

void RealContractNode::make_directory(const std::string& directory) { std::filesystem::create_directories(directory); }

void RealContractNode::make_symlink(const std::string& link, const std::string& to) { std::filesystem::create_symlink(to, link); }

int RealContractNode::write_file(const std::string& file, const std::string& text) { return write_at(file, O_CREAT | O_TRUNC, 0, text); }

std::optional<std::string> RealContractNode::read_file(const std::string& file) {
  if (!std::filesystem::is_regular_file(file)) {
    return std::nullopt;
  }
  return testing::read_file(file);
}

FileMode RealContractNode::mode_of(const std::string& file) {
  struct stat status{};
  must(::lstat(file.c_str(), &status) == 0, "stat of " + file);
  return {.gid = status.st_gid, .mode = status.st_mode & 07777U};
}

void RealContractNode::set_mode(const std::string& file, const FileMode& mode) {
  must(::lchown(file.c_str(), static_cast<uid_t>(-1), mode.gid) == 0, "chown of " + file);
  must(::chmod(file.c_str(), mode.mode) == 0, "chmod of " + file);
}

int RealContractNode::write_device(const std::string& device) { return write_at(device, 0, raw_byte_offset, "x"); }

void RealContractNode::write_luks(const mount::ImageRef& image) {
  // LUKS1: magic and version are all that libblkid looks at.
  constexpr std::string_view magic{"LUKS\xba\xbe\0\1", 8};
  errno = write_at(path_of(image), 0, 0, magic);
  must(errno == 0, "writing a LUKS header");
}

void RealContractNode::write_byte(const mount::ImageRef& image, std::uint64_t offset) {
  errno = write_at(path_of(image), 0, static_cast<off_t>(offset), "x");
  must(errno == 0, "writing a byte");
}

Hold RealContractNode::hold_open(const std::string& file) { return held(file, O_RDONLY); }

Hold RealContractNode::hold_device(const std::string& device) { return held(device, O_RDONLY | O_EXCL); }

Hold RealContractNode::pin(const std::string& /*mounted*/) { return std::make_shared<NamespaceHolder>(); }

bool RealContractNode::has_cgroups() { return TestCgroup::possible(); }

Hold RealContractNode::run_in_cgroup(const std::string& group, const std::string& /*mounted*/) {
  struct Process {
    explicit Process(const std::string& name) : cgroup(name) { cgroup.add(holder.pid()); }
    TestCgroup cgroup;
    NamespaceHolder holder;
  };
  return std::make_shared<Process>(group);
}

void RealContractNode::mount_foreign(const std::string& directory) {
  must(::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m") == 0, "a tmpfs on " + directory);
}

void RealContractNode::stack(const std::string& mounted) {
  must(::mount(mounted.c_str(), mounted.c_str(), nullptr, MS_BIND, nullptr) == 0, "a bind of " + mounted + " over itself");
}

}  // namespace ordinald::testing
