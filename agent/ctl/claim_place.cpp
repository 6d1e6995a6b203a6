#include "agent/ctl/claim_place.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "agent/ctl/session.hpp"
#include "agent/ctl/text_file.hpp"
#include "agent/durable_file.hpp"
#include "mount/crash_point.hpp"
#include "mount/files.hpp"

namespace ordinald::ctl {
namespace {

using mount::acted;
using mount::errno_error;
using nlohmann::json;

std::string place(const std::string& name) { return claims_run_dir() + "/" + name; }

std::optional<std::uint32_t> as_number(const std::string& text) {
  std::uint32_t number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number);
  return error == std::errc{} && end == last ? std::optional{number} : std::nullopt;
}

/// As a shell and systemd read it: names and paths of a claim file have nothing that would end the quotes.
void add_line(std::string& text, const std::string& key, const std::string& value) { text += key + "=\"" + value + "\"\n"; }

}  // namespace

std::string claims_run_dir() {
  const char* given = std::getenv("ORDINALD_CLAIMS_RUN_DIR");
  return given != nullptr && *given == '/' ? given : "/run/ordinald-claims";
}

Result<PlaceLock> PlaceLock::take(const std::string& name, Patience& patience) {
  TRYV(mount::make_directories(claims_run_dir()));
  const std::string path = place(name + ".lock");
  PlaceLock lock;
  lock.fd_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock.fd_) {
    return Failure{errno_error(errno, "opening " + path)};
  }
  TRYV(patience.until_done(Waits::for_calls, [&](std::chrono::milliseconds) -> Result<void> {
    if (::flock(lock.fd_.get(), LOCK_EX | LOCK_NB) == 0) {
      return mount::success();
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return Failure{errno_error(errno, "locking " + path)};
    }
    const auto pid = agent::read_file(path);
    return Failure{Exit::busy, "ABORTED",
                   "another ordinalctl is at work on " + name + (pid && !pid.value().empty() ? " (process " + pid.value() + ")" : "")};
  }));
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(lock.fd_.get(), 0) != 0 || ::pwrite(lock.fd_.get(), pid.data(), pid.size(), 0) < 0) {
    return Failure{errno_error(errno, "writing " + path)};
  }
  return lock;
}

std::optional<Claimed> load_claimed(const std::string& ordinal) {
  const auto text = agent::read_file(place(ordinal + ".json"));
  const json document = text ? json::parse(text.value(), nullptr, false) : json{};
  if (!document.is_object()) {
    return std::nullopt;
  }
  Claimed claimed{.volumes = {}, .by = text_at(document, "by"), .unit = text_at(document, "unit")};
  for (const json& each : list_at(document, "volumes")) {
    claimed.volumes.push_back({.of = text_at(each, "template"),
                               .claim = text_at(each, "claim"),
                               .id = text_at(each, "id"),
                               .staging = text_at(each, "staging"),
                               .target = text_at(each, "target"),
                               .keeps = text_at(each, "keeps")});
  }
  return claimed;
}

Result<void> save_claimed(const std::string& ordinal, const Claimed& claimed) {
  json list = json::array();
  for (const ClaimedVolume& each : claimed.volumes) {
    list.push_back({{"template", each.of},
                    {"claim", each.claim},
                    {"id", each.id},
                    {"staging", each.staging},
                    {"target", each.target},
                    {"keeps", each.keeps}});
  }
  TRYV(agent::write_file(
      claims_run_dir(), ordinal + ".json",
      json{{"by", claimed.by}, {"unit", claimed.unit}, {"volumes", std::move(list)}}.dump(2, ' ', false, json::error_handler_t::replace) +
          "\n",
      agent::Durability::until_reboot));
  return mount::success();
}

Result<void> forget_claimed(const std::string& ordinal) {
  TRYV(agent::remove_file(claims_run_dir(), ordinal + ".env", agent::Durability::until_reboot));
  TRYV(agent::remove_file(claims_run_dir(), ordinal + ".json", agent::Durability::until_reboot));
  return mount::success();
}

std::vector<std::int64_t> claimed_ordinals(const std::string& set) {
  std::vector<std::int64_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry{claims_run_dir(), error}; !error && entry != std::filesystem::directory_iterator{};
       entry.increment(error)) {
    const auto member = split_ordinal_name(entry->path().stem().string());
    if (entry->path().extension() == ".json" && member && member.value().set == set) {
      found.push_back(member.value().ordinal);
    }
  }
  std::ranges::sort(found);
  return found;
}

std::string staging_path(const std::string& claim) { return place(claim) + "/staging"; }
std::string environment_path(const std::string& ordinal) { return place(ordinal + ".env"); }

Result<void> write_environment(const ClaimSet& set, std::int64_t ordinal, const std::vector<ClaimedVolume>& volumes) {
  std::string peers;
  for (const std::int64_t other : ordinals(set)) {
    if (other != ordinal) {
      peers += (peers.empty() ? "" : " ") + stable_name(set, other);
    }
  }
  std::string text;
  add_line(text, "ORDINAL", std::to_string(ordinal));
  add_line(text, "SET_NAME", set.name);
  add_line(text, "POD_NAME", ordinal_name(set, ordinal));
  add_line(text, "REPLICAS", std::to_string(set.replicas));
  add_line(text, "PEERS", peers);
  add_line(text, "ADDRESS", address_of(set, ordinal));
  for (const ClaimedVolume& volume : volumes) {
    std::string key = volume.of + "_PATH";
    std::ranges::transform(key, key.begin(), [](char c) {
      return c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    });
    // Of a claim that was moved and died on the way both places are there, the new one first.
    if (text.find("\n" + key + "=") == std::string::npos) {
      add_line(text, key, volume.target);
    }
  }
  const std::string path = environment_path(ordinal_name(set, ordinal));
  if (const auto there = agent::read_file(path); !there || there.value() != text) {
    TRYV(replace_text_file(path, text));
  }
  return mount::success();
}

std::string kept_directory(const ClaimSet& set) {
  const auto slash = set.mount_path.rfind('/', set.mount_path.find('{'));
  return slash == 0 ? "/" : set.mount_path.substr(0, slash);
}

void tidy_above(const std::string& target, const std::string& keeps) {
  const std::string beneath = keeps.ends_with('/') ? keeps : keeps + "/";
  std::filesystem::path directory = std::filesystem::path{target}.parent_path();
  while (directory.string().starts_with(beneath) && directory.string() != beneath) {
    if (::rmdir(directory.c_str()) == 0) {
      acted("removing", directory.string());
    } else if (errno != ENOENT) {  // which a run that was killed left half done
      break;
    }
    directory = directory.parent_path();
  }
}

Result<RootAccess> look_up_access(const ClaimSet& set) {
  RootAccess access;
  const auto unknown = [&](const char* what, const std::string& name) {
    return failure(Exit::usage, "set " + set.name + ": " + what + ": there is no \"" + name + "\" on this node");
  };
  if (!set.owner.empty()) {
    const passwd* user = ::getpwnam(set.owner.c_str());
    const auto number = as_number(set.owner);
    if (user == nullptr && !number) {
      return unknown("owner", set.owner);
    }
    access.owner = user != nullptr ? user->pw_uid : *number;
  }
  if (!set.group.empty()) {
    const ::group* group = ::getgrnam(set.group.c_str());
    const auto number = as_number(set.group);
    if (group == nullptr && !number) {
      return unknown("group", set.group);
    }
    access.group = group != nullptr ? group->gr_gid : *number;
  }
  if (!set.mode.empty()) {
    access.mode = static_cast<mode_t>(std::stoul(set.mode, nullptr, 8));
  }
  return access;
}

Result<void> settle_root(const std::string& directory, const RootAccess& access) {
  const mount::UniqueFd fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  struct stat is = {};
  if (!fd || ::fstat(fd.get(), &is) != 0) {
    return Failure{errno_error(errno, "opening " + directory)};
  }
  const uid_t owner = access.owner.value_or(is.st_uid);
  const gid_t group = access.group.value_or(is.st_gid);
  if ((owner != is.st_uid || group != is.st_gid) && ::fchown(fd.get(), owner, group) != 0) {
    return Failure{errno_error(errno, "giving " + directory + " to its owner")};
  }
  acted("chown", directory);
  // After the owner: chown takes the set-id bits away.
  if (access.mode && *access.mode != (is.st_mode & 07777) && ::fchmod(fd.get(), *access.mode) != 0) {
    return Failure{errno_error(errno, "setting the mode of " + directory)};
  }
  acted("chmod", directory);
  return mount::success();
}

}  // namespace ordinald::ctl
