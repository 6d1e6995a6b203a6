#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/unit_files.hpp"

/// ordinald-generator NORMAL-DIR [EARLY-DIR LATE-DIR]: the claim files that name a unit, as units (systemd.generator(7)).
///
/// It runs early in the boot and at each daemon-reload: it reads claim files and nothing else, needs no agent, and always ends with 0. A
/// file that can't be used is left out, with the reason in the kernel's log (at boot there is no other) or on stderr.
///
/// All goes to the late directory: a set never takes the place of a unit that the distribution or the administrator has under that name.
namespace ordinald::ctl {
namespace {

namespace fs = std::filesystem;

void complain(const std::string& text) {
  // systemd says that it is the caller (since 251).
  const int kmsg = std::getenv("SYSTEMD_SCOPE") != nullptr ? ::open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY) : -1;
  const std::string line = "ordinald-generator: " + text + "\n";
  const std::string with_level = "<4>" + line;
  if (kmsg < 0 || ::write(kmsg, with_level.data(), with_level.size()) < 0) {
    static_cast<void>(::write(STDERR_FILENO, line.data(), line.size()) < 0);
  }
  if (kmsg >= 0) {
    ::close(kmsg);
  }
}

std::string claims_dir() {
  const char* given = std::getenv("ORDINALD_CLAIMS_DIR");
  return given != nullptr && *given == '/' ? given : "/etc/ordinald/claims";
}

/// Where a distribution keeps the targets that a set's must not be taken for.
bool is_distributions(const std::string& unit) {
  return std::ranges::any_of(
      std::initializer_list<const char*>{"/usr/local/lib/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"},
      [&](const char* directory) {
        std::error_code error;
        return fs::exists(fs::symlink_status(directory + unit, error));
      });
}

void write_unit(const fs::path& directory, const UnitFile& file) {
  const fs::path path = directory / file.path;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (!file.link.empty()) {
    fs::create_symlink(file.link, path, error);
  } else {
    std::ofstream out{path, std::ios::trunc};
    out << file.text;
    out.close();
    if (!out) {
      error = std::make_error_code(std::errc::io_error);
    }
  }
  if (error) {
    complain("writing " + path.string() + ": " + error.message());
  }
}

/// Whether systemd can have it; `taken` is which set has a unit, and grows.
bool is_usable(const ClaimSet& set, const std::string& path, std::map<std::string, std::string>& taken) {
  if (is_distributions(target_of(set))) {
    complain(path + ": left out: the system has a " + target_of(set) + " of its own; give the set another name");
    return false;
  }
  for (const std::int64_t ordinal : ordinals(set)) {
    const std::string unit = unit_of(set, ordinal);
    if (const auto other = taken.find(unit); other != taken.end()) {
      complain(path + ": left out: " + unit + " is already set " + other->second + "'s; a set needs a template unit of its own");
      return false;
    }
  }
  for (const std::int64_t ordinal : ordinals(set)) {
    taken.emplace(unit_of(set, ordinal), set.name);
  }
  return true;
}

void generate(const fs::path& directory) {
  const std::string claims = claims_dir();
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry{claims, error}; !error && entry != fs::directory_iterator{}; entry.increment(error)) {
    if (entry->path().extension() == ".json") {
      names.push_back(entry->path().stem().string());
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    complain("reading " + claims + ": " + error.message());
  }
  std::ranges::sort(names);
  std::map<std::string, std::string> taken;
  for (const std::string& name : names) {
    const std::string path = claims + "/" + name + ".json";
    const auto set = find_claim_set(claims, name);
    if (!set) {
      complain(set.error().message + ": left out");
      continue;
    }
    if (set.value().unit.empty() || !is_usable(set.value(), path, taken)) {
      continue;
    }
    for (const UnitFile& file : unit_files(set.value(), path)) {
      write_unit(directory, file);
    }
  }
}

}  // namespace
}  // namespace ordinald::ctl

int main(int argc, char** argv) {
  try {
    if (argc < 2) {
      ordinald::ctl::complain("usage: ordinald-generator NORMAL-DIR [EARLY-DIR LATE-DIR]");
    } else {
      ordinald::ctl::generate(argc >= 4 ? argv[3] : argv[1]);
    }
  } catch (const std::exception& error) {
    ordinald::ctl::complain(error.what());
  }
  return 0;
}
