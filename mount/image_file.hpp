#pragma once

#include <optional>
#include <string>

#include "mount/kernel.hpp"
#include "mount/unique_fd.hpp"

/// Images: the regular files of an image pool. Verbs of Kernel (kernel.hpp has their errors); stateless, any thread; sizes in bytes.
///
/// An image carries its volume's id in the attribute `trusted.ordinald.volume` (xattr(7): no workload can write those), which holds
/// across boots, where st_dev does not. It gets the attribute before it gets its name, so a file without it was never ours.
namespace ordinald::mount {

/// "the image /pool/x.img of volume v", for messages.
std::string describe(const ImageRef& image);

/// The image, opened beneath its directory and proven to be a regular file and this volume's. not_found: no image, or no directory.
/// failed_precondition: another kind of file, or not this volume's.
Result<UniqueFd> open_image(const ImageRef& image, int flags);

Result<ImageInfo> create_image_file(const ImageSpec& spec);
/// Without the label, which is wanted rarely.
Result<std::optional<ImageInfo>> inspect_image_file(const ImageRef& image);
/// Empty: none. Of an image that is there.
Result<std::string> read_image_label(const ImageRef& image);
Result<void> relabel_image_file(const ImageSpec& spec);
/// The volume id of the file at the path; empty: none.
Result<std::string> read_image_mark(const std::string& path);
/// Gives an open file mark and label. failed_precondition: its file system keeps no such attributes, or has no room for them.
Result<void> mark_image(int fd, const ImageRef& image, const std::string& label);
Result<ImageInfo> resize_image_file(const ImageSpec& spec);
Result<void> remove_image_file(const ImageRef& image);
Result<PoolUsage> inspect_pool_directory(const std::string& directory);

}  // namespace ordinald::mount
