#include "mount/probe.hpp"

#include <blkid/blkid.h>
#include <fcntl.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "mount/blank_proof.hpp"
#include "mount/block_device.hpp"
#include "mount/superblock.hpp"

namespace ordinald::mount {
namespace {

using BlkidProbe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, decltype([](blkid_probe probe) { ::blkid_free_probe(probe); })>;

std::string value_of(blkid_probe probe, const char* name) {
  const char* data = nullptr;
  std::size_t size = 0;
  if (::blkid_probe_lookup_value(probe, name, &data, &size) != 0 || data == nullptr) {
    return {};
  }
  return data;
}

std::string list(const std::vector<Signature>& signatures) {
  std::string text;
  for (const auto& signature : signatures) {
    text += text.empty() ? "" : ", ";
    text += signature.type + " (" + signature.usage + (signature.uuid.empty() ? "" : ", UUID " + signature.uuid) + ")";
  }
  return text;
}

}  // namespace

/// libblkid's "safe" probe would stop where two signatures contradict each other; here each one counts.
Result<std::vector<Signature>> find_signatures(int fd, std::uint64_t size, const std::string& name) {
  const std::string what = "looking for signatures on " + name;
  // libblkid reads both ends page by page (it switches read-ahead off): in large pieces beforehand, that takes a third of the time. Only a
  // hint: an error shows when libblkid reads.
  constexpr std::uint64_t end_size = 512ULL * 1024;
  ::posix_fadvise(fd, 0, end_size, POSIX_FADV_WILLNEED);
  if (size > end_size) {
    ::posix_fadvise(fd, static_cast<off_t>(size - end_size), end_size, POSIX_FADV_WILLNEED);
  }
  const BlkidProbe probe{::blkid_new_probe()};
  if (!probe) {
    return make_error(ErrorCode::internal, what + ": libblkid gave no probe");
  }
  errno = 0;
  if (::blkid_probe_set_device(probe.get(), fd, 0, 0) != 0) {
    return errno_error(errno != 0 ? errno : EIO, what);
  }
  ::blkid_probe_enable_superblocks(probe.get(), 1);
  ::blkid_probe_set_superblocks_flags(
      probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_BADCSUM);
  ::blkid_probe_enable_partitions(probe.get(), 1);
  // A GPT counts without its protective MBR too: of one whose beginning was overwritten, the backup header at the end is what is left.
  ::blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_FORCE_GPT);
  std::vector<Signature> found;
  while (true) {
    errno = 0;
    const int answer = ::blkid_do_probe(probe.get());
    if (answer == 1) {
      return found;
    }
    if (answer != 0) {
      return errno_error(errno != 0 ? errno : EIO, what + " (libblkid answers " + std::to_string(answer) + ")");
    }
    if (std::string table = value_of(probe.get(), "PTTYPE"); !table.empty()) {
      found.push_back({.usage = "partition-table", .type = std::move(table), .uuid = value_of(probe.get(), "PTUUID"), .label = {}});
    } else {
      found.push_back({.usage = value_of(probe.get(), "USAGE"),
                       .type = value_of(probe.get(), "TYPE"),
                       .uuid = value_of(probe.get(), "UUID"),
                       .label = value_of(probe.get(), "LABEL")});
    }
  }
}

Result<Probe> probe_device(const ProbeRequest& request) {
  Probe result;
  auto fd = open_verified(request.device, O_RDONLY | O_EXCL);
  if (!fd && fd.error().sys_errno == EBUSY) {
    result.busy = true;
    fd = open_verified(request.device, O_RDONLY);
  }
  if (!fd) {
    return fd.error();
  }
  TRY(const auto device, describe_open_device(fd.value().get(), request.device.path));
  if (device.size == 0) {
    return make_error(ErrorCode::internal, describe(device) + " has a size of 0 bytes: nothing can be said of what is on it");
  }
  TRY(result.signatures, find_signatures(fd.value().get(), device.size, describe(device)));
  for (const auto& signature : result.signatures) {
    TRY(const auto size, read_filesystem_size(fd.value().get(), signature.type));
    if (size.size != 0) {
      result.filesystem_size = size.on_device(device.size);
      break;
    }
  }
  TRY(result.ext4, read_ext4_past(fd.value().get()));
  if (result.busy) {
    result.not_blank_reason = describe(device) + " is in use: a filesystem on it is mounted somewhere, or a tool works on it";
  } else if (!result.signatures.empty()) {
    result.not_blank_reason = describe(device) + " holds " + list(result.signatures);
  } else {
    TRY(auto data, find_data(fd.value().get(), request));
    result.blank = !data;
    result.not_blank_reason = data.value_or("");
  }
  return result;
}

}  // namespace ordinald::mount
