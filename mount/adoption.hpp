#pragma once

#include "mount/kernel.hpp"

/// A file becomes a volume's image. The verb Kernel::adopt_image; stateless, any thread.
namespace ordinald::mount {

///     at its path ─▶ leased ─▶ marked, labelled, root's alone ─ fsync ─▶ renamed into the pool ─ fsync of both directories ─▶ an image
///
/// A crash leaves it at its path, perhaps marked, or in the pool with everything that says what it is.
Result<ImageInfo> adopt_file(const AdoptRequest& request);

}  // namespace ordinald::mount
