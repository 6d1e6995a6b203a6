#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/rig.hpp"

/// Kinds of content that a volume which should be blank could hold: made by the real tools, or by their published signatures.
///
/// Threading: none of it is shared. Errors: throws std::runtime_error when a tool isn't there or fails.
namespace ordinald::testing {

struct Kind {
  std::string name{};
  /// What the refusal must say was found: libblkid's word for it, or `holds data` where it has none.
  std::string says{};
  /// Puts it into the image, whose size stays as it is.
  std::function<void(const fs::path& image)> put{};
  /// libblkid sees it; else only its bytes tell.
  bool has_signature() const { return says != "holds data"; }
};

/// Every kind; the images have `corpus_size` bytes.
const std::vector<Kind>& corpus();
inline constexpr std::int64_t corpus_size = 320 * mebi;

/// Writes into the file at an offset (from its end where negative), and flushes it.
void poke(const fs::path& file, std::int64_t offset, std::string_view bytes);

/// A digest of all that is not zero in the file, and where: as good as one of every byte, and quick for a file that is mostly holes.
std::uint64_t digest_of(const fs::path& file);

}  // namespace ordinald::testing
