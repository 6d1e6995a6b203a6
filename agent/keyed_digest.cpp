#include "agent/keyed_digest.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <array>
#include <filesystem>

#include "agent/durable_file.hpp"

namespace ordinald::agent {

mount::Result<KeyedDigest> KeyedDigest::open(const std::string& run_dir) {
  constexpr std::size_t length = 32;
  auto existing = read_file(run_dir + "/key");
  if (existing && existing.value().size() == length) {
    return KeyedDigest{existing.value(), {}};
  }
  // A symlink to nothing has the name as well.
  std::error_code error;
  std::string trouble;
  if (std::filesystem::exists(std::filesystem::symlink_status(run_dir + "/key", error))) {
    TRY(const std::string aside, set_aside(run_dir, "key"));
    trouble = "the digests' key " + run_dir + "/key can't be used (" +
              (existing ? "it has " + std::to_string(existing.value().size()) + " bytes" : existing.error().message) +
              "), is set aside as " + aside +
              " and made anew: with which mount flags a volume was staged and published can't be compared any more, until it is unstaged";
  }
  std::string key(length, '\0');
  if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
    return mount::errno_error(errno, "getrandom for the digests' key");
  }
  TRYV(write_file(run_dir, "key", key, Durability::until_reboot));
  return KeyedDigest{std::move(key), std::move(trouble)};
}

std::string KeyedDigest::of(const std::vector<std::string>& parts) const {
  if (parts.empty()) {
    return {};
  }
  std::string text;
  for (const std::string& part : parts) {
    // Lengths between, so that no two lists give one text.
    text += std::to_string(part.size()) + ":" + part;
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  ::HMAC(::EVP_sha256(), key_.data(), static_cast<int>(key_.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         digest.data(), &size);
  constexpr std::string_view digits = "0123456789abcdef";
  std::string hex;
  for (std::size_t i = 0; i < 16 && i < size; ++i) {
    hex += digits[digest[i] >> 4U];
    hex += digits[digest[i] & 15U];
  }
  return hex;
}

}  // namespace ordinald::agent
