/// Any text as a volume's parameters, mkfsOptions and mount flags: refused with a message, or taken, and then nothing but words from the
/// lists goes to a program.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/volume_parameters.hpp"
#include "mount/filesystem.hpp"
#include "mount/mount_flags.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ordinald;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const char* name : {"ext4", "xfs", "btrfs"}) {
    const auto options = mount::find_filesystem(name)->mkfs_options(text, 4096);
    if (!options && options.error().message.empty()) std::abort();
    if (options) {
      const auto fits = mount::find_filesystem(name)->mkfs_fits(options.value(), std::uint64_t{1} << 30U, 4096);
      if (!fits && fits.error().message.empty()) std::abort();
      for (const std::string& word : options.value()) {
        const bool plain = std::ranges::all_of(word, [](unsigned char c) { return c > ' ' && c < 127; });
        if (word.empty() || !plain || word.find('/') != std::string::npos) std::abort();
      }
    }
  }
  // Lines of `key=value`.
  csi::StringMap parameters;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    const std::size_t equals = std::min(line.find('='), line.size());
    parameters[line.substr(0, equals)] = equals < line.size() ? line.substr(equals + 1) : std::string{};
    at = end + 1;
  }
  const auto read = agent::read_parameters(parameters);
  if (!read && read.error().message.empty()) std::abort();
  const mount::MountFlags flags = mount::split_mount_flags({text, "ro", text});
  if (flags.options.size() != flags.places.size()) std::abort();
  return 0;
}
