#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mount/result.hpp"

namespace ordinald::agent {

/// HMAC-SHA256 under a key that lives under the run directory (0600) and so ends with the boot: what must be compared later but never be
/// read (mount flags, rule 6), and what must be known as ours when it comes back (page tokens). Thread safe.
class KeyedDigest {
 public:
  /// Reads `<run dir>/key`, or makes it. One that can't be read is set aside, and told of by trouble().
  static mount::Result<KeyedDigest> open(const std::string& run_dir);

  /// Hex, 32 digits. Nothing in, nothing out: an empty list has the empty digest.
  [[nodiscard]] std::string of(const std::vector<std::string>& parts) const;
  /// Tells one key from another, and nothing else of it.
  [[nodiscard]] std::string id() const { return of({"which key"}); }
  /// Why this is not the key that there was; empty: it is, or there was none.
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  KeyedDigest(std::string key, std::string trouble) : key_(std::move(key)), trouble_(std::move(trouble)) {}
  std::string key_;
  std::string trouble_;
};

}  // namespace ordinald::agent
