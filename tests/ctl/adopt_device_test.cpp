// A block device becomes a volume: copied by ordinalctl, compared, adopted; what stops it, and what is left when it is stopped.
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): kill(2)
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tests/ctl/ctl_program.hpp"
#include "tests/support/rig.hpp"

namespace ordinald::testing {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace std::chrono_literals;

Ctl ctl_of(const Rig& rig) { return Ctl{(rig.root() / "run/admin.sock").string()}; }

int run_shell(const std::string& command) { return run_tool({"/bin/sh", "-c", command}); }

/// A file on a loop device, beside the agent's directories.
class Disk {
 public:
  Disk(const fs::path& file, std::int64_t size) : file_(file) {
    write_file(file, "");
    fs::resize_file(file, static_cast<std::uintmax_t>(size));
    const fs::path answer = file.string() + ".loop";
    REQUIRE(run_shell("losetup --find --show " + file.string() + " > " + answer.string() + " && blockdev --setrw $(cat " + answer.string() +
                      ")") == 0);
    path_ = read_file(answer);
    while (path_.ends_with('\n')) path_.pop_back();
  }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;
  ~Disk() { run_tool({"losetup", "-d", path_}); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const fs::path& file() const { return file_; }
  [[nodiscard]] std::string checksum() const {
    const fs::path sum = file_.string() + ".sum";
    REQUIRE(run_shell("sync " + path_ + " && sha256sum < " + path_ + " > " + sum.string()) == 0);
    return read_file(sum);
  }

 private:
  fs::path file_;
  std::string path_;
};

/// With a tree in it whose checksums are in /sums.
void fill(Rig& rig, const Disk& disk, const std::string& type) {
  const fs::path mounted = rig.root() / "m";
  fs::create_directories(mounted);
  REQUIRE(run_tool({"mkfs." + type, "-q", disk.path()}) == 0);
  REQUIRE(::mount(disk.path().c_str(), mounted.c_str(), type.c_str(), 0, nullptr) == 0);
  CHECK(run_shell("cd " + mounted.string() +
                  " && mkdir -p db/base && for i in 1 2 3 4 5; do head -c ${i}00001 /dev/urandom > db/base/$i; done && "
                  "find db -type f -exec sha256sum {} + > sums") == 0);
  REQUIRE(::umount2(mounted.c_str(), 0) == 0);
}

/// What is in the pool by the names that begin with a dot.
std::vector<fs::path> unfinished(const Rig& rig) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator{rig.pool()}) {
    if (entry.path().filename().string().starts_with('.')) found.push_back(entry.path());
  }
  return found;
}

std::int64_t allocated(const fs::path& file) {
  struct stat status{};
  REQUIRE(::stat(file.c_str(), &status) == 0);
  return status.st_blocks * 512;
}

/// `ordinalctl adopt DEVICE --yes`, stopped (SIGSTOP) with its copy begun and not finished.
class Stopped {
 public:
  Stopped(const Rig& rig, const std::string& device) {
    pid_ = ::fork();
    if (pid_ == 0) {
      const int null = ::open((rig.root() / "ctl.log").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
      ::dup2(null, 1);
      ::dup2(null, 2);
      const std::string socket = (rig.root() / "run/admin.sock").string();
      ::execl(ORDINALCTL_PROGRAM, "ordinalctl", "--admin-socket", socket.c_str(), "adopt", device.c_str(), "--yes", nullptr);
      ::_exit(127);
    }
    const auto begun = [&] { return !unfinished(rig).empty() && allocated(unfinished(rig).front()) > 0; };
    for (int i = 0; i < 30000 && !begun(); ++i) std::this_thread::sleep_for(1ms);
    ::kill(pid_, SIGSTOP);
    REQUIRE(begun());
  }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;
  ~Stopped() {
    if (pid_ > 0) end(SIGKILL);
  }
  /// Ends it with a signal; its status as waitpid(2) has it.
  int end(int signal) {
    ::kill(pid_, signal);
    ::kill(pid_, SIGCONT);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
};

/// Staged and published, its checksums hold.
void check_data(Rig& rig, const std::string& id, const std::string& type) {
  const auto capability = mount_capability(single_node_single_writer, type);
  REQUIRE(rig.stage(id, capability, rig.staging(id)) == OK);
  REQUIRE(rig.publish(id, capability, rig.staging(id), rig.target(id)) == OK);
  CHECK(run_shell("cd " + rig.target(id).string() + " && sha256sum --check --quiet sums && echo more > db/more") == 0);
  REQUIRE(rig.unpublish(id, rig.target(id)) == OK);
  REQUIRE(rig.unstage(id, rig.staging(id)) == OK);
}

}  // namespace

TEST_CASE("ctl: a block device is copied, compared and adopted, and stays as it was", "[root]") {
  const std::string type = GENERATE(as<std::string>{}, "ext4", "xfs", "btrfs");
  INFO(type);
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const Disk disk{rig.root() / "disk", type == "ext4" ? 96 * mebi : 320 * mebi};
  fill(rig, disk, type);
  const std::string before = disk.checksum();

  const Ran shown = ctl({"adopt", disk.path(), "--claim", "prod/data-db-0"});
  INFO(shown);
  CHECK(shown.status == 5);
  CHECK_THAT(shown.out, Contains("block device") && Contains(type) && Contains("copied into the pool and compared") && Contains("sums") &&
                            Contains("prod.data-db-0"));
  CHECK(fs::is_empty(rig.pool()));
  const json planned = ctl.json({"adopt", disk.path()}, 5);
  CHECK(planned["refusals"].empty());
  CHECK(planned["copy"]["thick"] == false);

  const Ran adopted = ctl.on_terminal({"adopt", disk.path(), "--claim", "prod/data-db-0", "--yes"}, 100);
  INFO(adopted);
  REQUIRE(adopted.status == 0);
  CHECK_THAT(adopted.out, Contains("Copied and compared") && Contains("copying ") && Contains("comparing "));
  const json volume = ctl.json({"show", "prod/data-db-0"});
  const std::string id = volume["id"];
  CHECK(disk.checksum() == before);
  CHECK(unfinished(rig).empty());
  CHECK(fs::file_size(rig.image_of(id)) == fs::file_size(disk.file()));
  CHECK(allocated(rig.image_of(id)) < static_cast<std::int64_t>(fs::file_size(disk.file())) * 9 / 10);
  CHECK(json::parse(read_file(rig.record_of(id)))["adoptedFrom"] == disk.path());
  check_data(rig, id, type);
  // Once more: it is done. Under another name it would be a second one with the same UUID.
  const Ran again = ctl({"adopt", disk.path(), "--claim", "prod/data-db-0", "--yes"});
  CHECK(again.status == 0);
  CHECK_THAT(again.out, Contains(id + " already"));
  const Ran second = ctl({"adopt", disk.path(), "--name", "other", "--yes"});
  CHECK(second.status == 1);
  CHECK_THAT(second.out, Contains("same UUID"));
  CHECK(disk.checksum() == before);
}

TEST_CASE("ctl: a device that is in use, or too large, is not copied; of a thick pool every block is there", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const Disk disk{rig.root() / "disk", 96 * mebi};
  fill(rig, disk, "ext4");

  REQUIRE(::mount(disk.path().c_str(), (rig.root() / "m").c_str(), "ext4", 0, nullptr) == 0);
  const Ran mounted = ctl({"adopt", disk.path(), "--yes"});
  REQUIRE(::umount2((rig.root() / "m").c_str(), 0) == 0);
  CHECK(mounted.status == 1);
  CHECK_THAT(mounted.out, Contains("in use: it is mounted: umount " + (rig.root() / "m").string()));
  const int fd = ::open(disk.path().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK_THAT(ctl({"adopt", disk.path(), "--yes"}).out, Contains("something has it for itself"));
  ::close(fd);

  // A pool on a file system of its own with less room than the device.
  const fs::path small = rig.root() / "small";
  fs::create_directories(small);
  REQUIRE(::mount("none", small.c_str(), "tmpfs", 0, "size=64m") == 0);
  const fs::path tight = rig.root() / "tight";
  fs::create_directories(tight);
  REQUIRE(::mount("none", tight.c_str(), "tmpfs", 0, "size=12m") == 0);
  rig.agent().configuration()["pools"] = {{{"name", "default"}, {"directory", rig.pool()}},
                                          {{"name", "thick"}, {"directory", rig.root() / "thick"}, {"provisioning", "thick"}},
                                          {{"name", "small"}, {"directory", small}},
                                          {{"name", "tight"}, {"directory", tight}, {"overcommit", 100.0}, {"reservePercent", 90}}};
  fs::create_directories(rig.root() / "thick");
  rig.agent().stop();
  rig.agent().start();
  const Ran promised = ctl({"adopt", disk.path(), "--pool", "small", "--yes"});
  CHECK(promised.status == 1);
  CHECK_THAT(promised.out, Contains("can't promise " + std::to_string(96 * mebi) + " bytes more, only "));
  const Ran full = ctl({"adopt", disk.path(), "--pool", "tight", "--yes"});
  CHECK(full.status == 1);
  CHECK_THAT(full.out, Contains("its copy takes ") && Contains("its reserve keeps "));
  CHECK(fs::is_empty(small));
  CHECK(fs::is_empty(tight));

  const json thick = ctl.json({"adopt", disk.path(), "--pool", "thick", "--yes"});
  CHECK(thick["copied"]["bytes"] == 96 * mebi);
  CHECK(thick["copied"]["written"] < 96 * mebi);
  const std::string id = thick["volume"]["id"];
  CHECK(allocated(rig.root() / "thick" / (id + ".img")) >= 96 * mebi);
  check_data(rig, id, "ext4");
}

TEST_CASE("ctl: a copy that meets a full file system is removed, and the device is whole", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const Disk disk{rig.root() / "disk", 96 * mebi};
  fill(rig, disk, "ext4");
  // Bytes of files that are no more: the filesystem counts them as free, and a copy has them all the same.
  REQUIRE(::mount(disk.path().c_str(), (rig.root() / "m").c_str(), "ext4", 0, nullptr) == 0);
  CHECK(run_shell("cd " + (rig.root() / "m").string() + " && head -c 50M /dev/urandom > gone && sync && rm gone") == 0);
  REQUIRE(::umount2((rig.root() / "m").c_str(), 0) == 0);
  const fs::path tight = rig.root() / "tight";
  fs::create_directories(tight);
  REQUIRE(::mount("none", tight.c_str(), "tmpfs", 0, "size=40m") == 0);
  rig.agent().configuration()["pools"] = {{{"name", "tight"}, {"directory", tight}, {"overcommit", 20.0}}};
  rig.agent().stop();
  rig.agent().start();
  const std::string before = disk.checksum();
  const Ran full = ctl({"adopt", disk.path(), "--yes"});
  INFO(full);
  CHECK(full.status == 1);
  CHECK_THAT(full.err, Contains("bytes free") && Contains("the copy is removed, and " + disk.path() + " is as it was"));
  CHECK(fs::is_empty(tight));
  CHECK(disk.checksum() == before);
  CHECK(ctl.json({"volumes"})["volumes"].empty());
}

TEST_CASE("ctl: a copy that is killed is no volume, is reported, and is made anew; one that gets a signal is removed", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  const Disk disk{rig.root() / "disk", 1024 * mebi};  // so that the copy takes a while
  fill(rig, disk, "ext4");
  const std::string before = disk.checksum();
  const std::int64_t available = ctl.json({"pools"})["pools"][0]["available"];
  {
    Stopped copy{rig, disk.path()};
    // Nobody takes the device meanwhile, and what the copy will be is promised.
    CHECK(available - ctl.json({"pools"})["pools"][0]["available"].get<std::int64_t>() > 1000 * mebi);
    CHECK(::mount(disk.path().c_str(), (rig.root() / "m").c_str(), "ext4", 0, nullptr) != 0);
    CHECK_THAT(ctl({"adopt", disk.path(), "--yes"}).out, Contains("in use"));
    const int status = copy.end(SIGTERM);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 1));
    CHECK_THAT(read_file(rig.root() / "ctl.log"), Contains("broken off by SIGTERM") && Contains("the copy is removed"));
    CHECK(unfinished(rig).empty());
  }
  {
    // Somebody writes to the device without asking whose it is, where it was copied already.
    Stopped copy{rig, disk.path()};
    REQUIRE(run_shell("printf x | dd of=" + disk.path() + " conv=notrunc,fsync status=none") == 0);
    const int status = copy.end(SIGCONT);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 1));
    CHECK_THAT(read_file(rig.root() / "ctl.log"), Contains("differs from it at byte 0") && Contains("the copy is removed"));
    CHECK(unfinished(rig).empty());
    REQUIRE(run_shell("printf '\\0' | dd of=" + disk.path() + " conv=notrunc,fsync status=none") == 0);
  }
  Stopped{rig, disk.path()}.end(SIGKILL);
  REQUIRE(unfinished(rig).size() == 1);
  const fs::path left = unfinished(rig).front();
  write_file(left, std::string(4096, '\xee'));  // whatever it has
  // It is reported, no repair touches it, and it is adopted by no name.
  ctl({"orphans", "--repair", "--yes"});
  CHECK(fs::exists(left));
  const Ran orphans = ctl({"orphans"});
  CHECK_THAT(orphans.out, Contains(left.string() + ": the copy of a block device") && Contains("rm " + left.string()));
  CHECK(ctl.json({"volumes"})["volumes"].empty());
  const Ran taken = ctl({"adopt", left, "--yes"});
  CHECK(taken.status == 1);
  CHECK_THAT(taken.err, Contains("perhaps not all of it"));
  rig.crash();
  CHECK(fs::exists(left));
  CHECK(ctl.json({"volumes"})["volumes"].empty());

  const json adopted = ctl.json({"adopt", disk.path(), "--yes"});
  const std::string id = adopted["volume"]["id"];
  CHECK(unfinished(rig).empty());
  CHECK(disk.checksum() == before);
  CHECK(run_tool({"cmp", "--quiet", rig.image_of(id), disk.path()}) == 0);
  check_data(rig, id, "ext4");
}

TEST_CASE("ctl: a copy that is not what it should be is not adopted", "[root]") {
  Rig rig;
  const Ctl ctl = ctl_of(rig);
  // The loop device of a volume's own image.
  const auto capability = mount_capability(single_node_single_writer, "ext4");
  const std::string id = rig.create("v", capability, 64 * mebi);
  REQUIRE(rig.stage(id, capability, rig.staging(id)) == OK);
  const std::string device = ctl.json({"show", id})["device"]["path"];
  const Ran own = ctl({"adopt", device, "--yes"});
  CHECK(own.status == 1);
  CHECK_THAT(own.out, Contains("it is a loop device of the image of volume " + id) && !Contains("losetup -d"));
  REQUIRE(rig.unstage(id, rig.staging(id)) == OK);
}

}  // namespace ordinald::testing
