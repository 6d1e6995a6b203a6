#include "agent/admin/node_checks.hpp"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "agent/durable_file.hpp"
#include "agent/path_words.hpp"

namespace ordinald::agent {
namespace {

using nlohmann::json;

struct Tool {
  const char* path;
  const char* flag;  ///< that makes it print its version; empty: none does
};

constexpr std::array<Tool, 6> tools{{{"/usr/sbin/mke2fs", "-V"},
                                     {"/usr/sbin/e2fsck", "-V"},
                                     {"/usr/sbin/resize2fs", ""},
                                     {"/usr/sbin/e2undo", ""},
                                     {"/usr/sbin/mkfs.xfs", "-V"},
                                     {"/usr/bin/mkfs.btrfs", "-V"}}};

std::string name_of(const Tool& tool) {
  const std::string path{tool.path};
  return path.substr(path.rfind('/') + 1);
}

/// Where it is; empty: nowhere.
std::string path_of(const Tool& tool) {
  const std::string beside = "/sbin/" + name_of(tool);
  return ::access(tool.path, X_OK) == 0 ? tool.path : ::access(beside.c_str(), X_OK) == 0 ? beside : std::string{};
}

/// The first of the words that looks like `1.47.0` or `v6.2`.
std::string version_in(const std::string& output) {
  std::istringstream words{output};
  for (std::string word; words >> word;) {
    const std::string number = word.substr(word.starts_with('v') ? 1 : 0);
    if (!number.empty() && number.front() >= '0' && number.front() <= '9' && number.find('.') != std::string::npos) {
      return number;
    }
  }
  return {};
}

json check_kernel() {
  utsname names{};
  (void)::uname(&names);
  int first = 0;
  int second = 0;
  (void)std::sscanf(names.release, "%d.%d", &first, &second);
  const bool fit = first > 5 || (first == 5 && second >= 15);  // mount_setattr(2) 5.12, a disk's sequence number 5.15
  return fit ? check("kernel", "ok", std::string{"Linux "} + names.release, "")
             : check("kernel", "failed", std::string{"Linux "} + names.release, "run Linux 5.15 or newer: Debian 12 has 6.1");
}

json check_capabilities() {
  struct Needed {
    unsigned bit;
    const char* name;
    const char* what_for;
    bool must;
  };
  constexpr std::array needed{Needed{21, "CAP_SYS_ADMIN", "mounting", true}, Needed{1, "CAP_DAC_OVERRIDE", "reaching targets", true},
                              Needed{0, "CAP_CHOWN", "volume groups", false},
                              Needed{24, "CAP_SYS_RESOURCE", "growing a mounted ext4", false},
                              Needed{19, "CAP_SYS_PTRACE", "seeing who has a volume", false}};
  const auto status = read_file("/proc/self/status");
  const std::size_t at = status ? status.value().find("CapEff:") : std::string::npos;
  if (at == std::string::npos) {
    return check("capabilities", "warning", "they can't be read from /proc/self/status", "mount /proc for the agent");
  }
  const std::uint64_t has = std::strtoull(status.value().c_str() + at + 7, nullptr, 16);
  std::string missing;
  bool must = false;
  for (const Needed& each : needed) {
    if ((has >> each.bit & 1U) == 0) {
      missing += (missing.empty() ? "" : ", ") + std::string{each.name} + " (" + each.what_for + ")";
      must = must || each.must;
    }
  }
  return missing.empty() ? check("capabilities", "ok", "all that are needed", "")
                         : check("capabilities", must ? "failed" : "warning", "missing: " + missing,
                                 "give the agent these capabilities (in a container: privileged: true)");
}

json check_loops() {
  return ::access("/dev/loop-control", R_OK | W_OK) == 0 ? check("loop devices", "ok", "/dev/loop-control is there", "")
                                                         : check("loop devices", "failed", "the agent can't open /dev/loop-control",
                                                                 "modprobe loop; in a container, give it the host's /dev");
}

/// Mounts of the agent reach workloads that run in other namespaces only where the mount above them is shared.
json check_propagation() {
  constexpr const char* name = "mount propagation";
  struct stat own{};
  struct stat first{};
  const bool host = ::stat("/proc/self/ns/mnt", &own) == 0 && ::stat("/proc/1/ns/mnt", &first) == 0 && own.st_ino == first.st_ino;
  const auto table = read_file("/proc/self/mountinfo");
  std::string above = "/";
  bool shared = false;
  std::istringstream lines{table ? table.value() : std::string{}};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string mount_point;
    for (int i = 0; i < 5; ++i) {
      words >> mount_point;
    }
    if (is_within("/var/lib/kubelet", mount_point) && mount_point.size() >= above.size()) {
      above = mount_point;
      shared = line.find(" shared:") != std::string::npos;
    }
  }
  if (shared) {
    return check(name, "ok", above + " is shared" + (host ? ", and the agent is in the host's mount namespace" : ""), "");
  }
  return check(name, "warning",
               above + " is not shared where the agent runs" + (host ? "" : ", in a mount namespace of its own") +
                   ": containers see what it mounts only when they start",
               host ? "mount --make-rshared /" : "mount its directories with mountPropagation: Bidirectional");
}

json check_state_dir(const Config& config) {
  struct statfs status{};
  if (::statfs(config.state_dir.c_str(), &status) != 0) {
    return check("state directory", "failed", config.state_dir + " can't be looked at", "put it back, and restart the agent");
  }
  if (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC || status.f_type == OVERLAYFS_SUPER_MAGIC) {
    return check("state directory", "failed",
                 config.state_dir + " is on a " + (status.f_type == OVERLAYFS_SUPER_MAGIC ? "container's file system" : "tmpfs") +
                     ": records are lost at the next start",
                 "set stateDir to a directory on a disk of the node");
  }
  return check("state directory", "ok", config.state_dir + " is on a disk", "");
}

json check_run_dir(const Config& config) {
  struct statfs status{};
  const bool there = ::statfs(config.run_dir.c_str(), &status) == 0;
  return there && status.f_type == TMPFS_MAGIC
             ? check("run directory", "ok", config.run_dir + " is on a tmpfs", "")
             : check("run directory", "warning",
                     config.run_dir + (there ? " is not on a tmpfs: it outlives a boot" : " can't be looked at"),
                     "set runDir to a directory beneath /run");
}

}  // namespace

json check(const char* name, const char* verdict, const std::string& detail, const std::string& remedy) {
  return {{"name", name}, {"verdict", verdict}, {"detail", detail}, {"remedy", remedy}};
}

json quick_checks(const Config& config) {
  return {check_kernel(), check_capabilities(), check_loops(), check_propagation(), check_state_dir(config), check_run_dir(config)};
}

ToolVersions tool_versions(mount::Kernel& kernel) {
  ToolVersions versions;
  for (const Tool& tool : tools) {
    if (const std::string path = path_of(tool); !path.empty() && *tool.flag != '\0') {
      const auto told = kernel.run_tool(
          {.argv = {path, tool.flag}, .device = {}, .deadline = std::chrono::seconds{5}, .memory = std::uint64_t{1} << 30U, .scratch = {}});
      versions[name_of(tool)] = told ? version_in(told.value().output) : std::string{};
    }
  }
  return versions;
}

json check_tools(const ToolVersions& versions) {
  std::string there;
  std::string missing;
  for (const Tool& tool : tools) {
    if (path_of(tool).empty()) {
      missing += (missing.empty() ? "" : ", ") + std::string{tool.path};
      continue;
    }
    const auto version = versions.find(name_of(tool));
    const bool unknown = *tool.flag != '\0' && (version == versions.end() || version->second.empty());
    there += (there.empty() ? "" : ", ") + name_of(tool) +
             (unknown              ? " (of an unknown version)"
              : *tool.flag == '\0' ? ""
                                   : " " + version->second);
  }
  return missing.empty()
             ? check("agent's tools", "ok", there, "")
             : check("agent's tools", "warning", "missing where the agent runs: " + missing + (there.empty() ? "" : "; there: " + there),
                     "install e2fsprogs, xfsprogs and btrfs-progs there; volumes of those filesystems can't be made before");
}

}  // namespace ordinald::agent
