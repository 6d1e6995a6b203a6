#include "tests/support/rig.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <set>
#include <stdexcept>
#include <system_error>

namespace ordinald::testing {
namespace {

template <class Health>
std::string reasons(const Health& health) {
  std::set<std::string> words;
  for (const auto& entry : health.health_statuses()) words.insert(entry.reason());
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

fs::path only_file_with(const fs::path& directory, const std::string& id) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && entry.path().filename().string().find(id) != std::string::npos) found.push_back(entry.path());
  INFO("files of " << directory << " with " << id << " in their names: " << Catch::StringMaker<std::vector<fs::path>>::convert(found));
  REQUIRE(found.size() == 1);
  return found.front();
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  out << code_name(outcome.code);
  if (outcome.code != OK) out << " \"" << outcome.message << '"' << (outcome.has_details ? " with details" : "");
  return out;
}

Outcome outcome(const grpc::Status& status) { return {status.error_code(), status.error_message(), !status.error_details().empty()}; }

int try_write(const fs::path& file, std::string_view text) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  int error = 0;
  if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) error = errno;
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  ::close(fd);
  return error;
}

int try_write_device(const fs::path& device) {
  const int fd = ::open(device.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  std::vector<char> block(4096, 'x');
  int error = 0;
  if (::pwrite(fd, block.data(), block.size(), 0) < 0 || ::fsync(fd) != 0) error = errno;
  ::close(fd);
  return error;
}

int run_tool(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Rig::Rig(const Settings& settings, bool start) : temp_("rig"), agent_(ORDINALD_PROGRAM, temp_.path(), nlohmann::json(settings)) {
  if (start) agent_.start();
}

void Rig::crash() {
  agent_.kill();
  agent_.start();
}

fs::path Rig::staging(const std::string& name) const {
  const fs::path path = root() / "stage" / name;
  fs::create_directories(path);
  return path;
}

fs::path Rig::target(const std::string& pod) const {
  const fs::path parent = root() / "pods" / pod;
  fs::create_directories(parent);
  return parent / "volume";
}

v1::CreateVolumeRequest Rig::create_request(const std::string& name, const v1::VolumeCapability& capability, std::int64_t size,
                                            const StringMap& parameters) const {
  v1::CreateVolumeRequest request;
  request.set_name(name);
  request.mutable_capacity_range()->set_required_bytes(size);
  *request.add_volume_capabilities() = capability;
  request.mutable_parameters()->insert(parameters.begin(), parameters.end());
  return request;
}

std::string Rig::create(const std::string& name, const v1::VolumeCapability& capability, std::int64_t size, const StringMap& parameters) {
  const auto reply = call(create_request(name, capability, size, parameters));
  REQUIRE(outcome(reply) == OK);
  return reply->volume().volume_id();
}

v1::NodeStageVolumeRequest Rig::stage_request(const std::string& id, const v1::VolumeCapability& capability,
                                              const fs::path& staging) const {
  v1::NodeStageVolumeRequest request;
  request.set_volume_id(id);
  request.set_staging_target_path(staging);
  *request.mutable_volume_capability() = capability;
  return request;
}

v1::NodePublishVolumeRequest Rig::publish_request(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging,
                                                  const fs::path& target) const {
  v1::NodePublishVolumeRequest request;
  request.set_volume_id(id);
  request.set_staging_target_path(staging);
  request.set_target_path(target);
  *request.mutable_volume_capability() = capability;
  return request;
}

Outcome Rig::stage(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging) {
  return outcome(call(stage_request(id, capability, staging)));
}

Outcome Rig::unstage(const std::string& id, const fs::path& staging) {
  v1::NodeUnstageVolumeRequest request;
  request.set_volume_id(id);
  request.set_staging_target_path(staging);
  return outcome(call(request));
}

Outcome Rig::publish(const std::string& id, const v1::VolumeCapability& capability, const fs::path& staging, const fs::path& target) {
  return outcome(call(publish_request(id, capability, staging, target)));
}

Outcome Rig::unpublish(const std::string& id, const fs::path& target) {
  v1::NodeUnpublishVolumeRequest request;
  request.set_volume_id(id);
  request.set_target_path(target);
  return outcome(call(request));
}

Outcome Rig::remove(const std::string& id) {
  v1::DeleteVolumeRequest request;
  request.set_volume_id(id);
  return outcome(call(request));
}

std::string Rig::node_health(const std::string& id) {
  v1::NodeGetVolumeHealthRequest request;
  request.set_volume_id(id);
  const auto reply = call(request);
  REQUIRE(outcome(reply) == OK);
  return reasons(reply->volume_health());
}

std::string Rig::controller_health(const std::string& id) {
  v1::ControllerGetVolumeHealthRequest request;
  request.set_volume_id(id);
  const auto reply = call(request);
  REQUIRE(outcome(reply) == OK);
  return reasons(reply->volume_health());
}

fs::path Rig::image_of(const std::string& id) const { return only_file_with(pool(), id); }
fs::path Rig::record_of(const std::string& id) const { return only_file_with(root() / "state/volumes", id); }

std::int64_t small_size(const std::string& fs_type) {
  if (fs_type == "xfs") return 320 * mebi;
  if (fs_type == "btrfs") return 128 * mebi;
  return 64 * mebi;
}

LiveVolume bring_up(Rig& rig, const std::string& name, const v1::VolumeCapability& capability, std::int64_t size) {
  LiveVolume volume;
  volume.capability = capability;
  volume.id = rig.create(name, capability, size > 0 ? size : small_size(capability.mount().fs_type()));
  volume.staging = rig.staging(name);
  volume.target = rig.target(name + "-pod");
  REQUIRE(rig.stage(volume.id, capability, volume.staging) == OK);
  REQUIRE(rig.publish(volume.id, capability, volume.staging, volume.target) == OK);
  return volume;
}

WritableUsr::WritableUsr() : temp_("usr") {
  for (const char* name : {"upper", "work"}) fs::create_directory(temp_.path() / name);
  const std::string directory = temp_.path();
  const std::string options = "lowerdir=/usr,upperdir=" + directory + "/upper,workdir=" + directory + "/work";
  if (::mount("overlay", "/usr", "overlay", 0, options.c_str()) != 0)
    throw std::system_error(errno, std::generic_category(), "mount an overlay on /usr");
}

WritableUsr::~WritableUsr() { ::umount2("/usr", MNT_DETACH); }

ToolGate::ToolGate(const fs::path& program)
    : program_(fs::canonical(program)), directory_("/usr/lib/ordinald-gate-" + program.filename().string()) {
  fs::create_directory(directory_);
  for (const char* name : {"entered", "gate"})
    if (::mkfifo((directory_ / name).c_str(), 0600) != 0) throw std::system_error(errno, std::generic_category(), "mkfifo");
  // Open on both sides here, so that nobody waits for an end to be opened.
  entered_ = ::open((directory_ / "entered").c_str(), O_RDWR | O_CLOEXEC);
  gate_ = ::open((directory_ / "gate").c_str(), O_RDWR | O_CLOEXEC);
  if (entered_ < 0 || gate_ < 0) throw std::system_error(errno, std::generic_category(), "open a fifo");
  // The program's name decides what some tools do (mkfs.ext4 is mke2fs), so it is handed on.
  const std::string d = directory_;
  write_file(directory_ / "wrapper",
             "#!/bin/bash\necho $$ >" + d + "/entered\nread -r _ <" + d + "/gate\nexec -a \"$0\" " + d + "/real \"$@\"\n");
  fs::permissions(directory_ / "wrapper", fs::perms(0755));
  fs::rename(program_, directory_ / "real");
  fs::rename(directory_ / "wrapper", program_);
}

ToolGate::~ToolGate() {
  std::error_code error;
  fs::rename(directory_ / "real", program_, error);
  if (error) std::fprintf(stderr, "%s stays behind its gate: %s\n", program_.c_str(), error.message().c_str());
  for (int i = 0; i < 64; ++i) let_one_through();
  ::close(entered_);
  ::close(gate_);
  fs::remove_all(directory_, error);
}

bool ToolGate::take_arrivals(int timeout_ms) {
  pollfd wait = {entered_, POLLIN, 0};
  if (::poll(&wait, 1, timeout_ms) <= 0) return false;
  char text[512];
  const ssize_t size = ::read(entered_, text, sizeof(text));
  if (size <= 0) throw std::system_error(errno, std::generic_category(), "read the gate");
  unread_.append(text, static_cast<std::size_t>(size));
  for (std::size_t end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n')) {
    arrivals_.push_back(static_cast<pid_t>(std::stol(unread_)));
    unread_.erase(0, end + 1);
  }
  return true;
}

pid_t ToolGate::wait_for_one() {
  while (arrivals_.size() <= awaited_) {
    if (take_arrivals(30000)) continue;
    for (int i = 0; i < 64; ++i) let_one_through();  // a thread of the test may wait for a call that waits here
    throw std::runtime_error("nobody ran " + program_.string() + " within 30 s");
  }
  return arrivals_[awaited_++];
}

void ToolGate::let_one_through() {
  if (::write(gate_, "\n", 1) != 1) throw std::system_error(errno, std::generic_category(), "open the gate");
}

int ToolGate::runs() {
  while (take_arrivals(0)) {
  }
  return static_cast<int>(arrivals_.size());
}

}  // namespace ordinald::testing

std::string Catch::StringMaker<grpc::StatusCode>::convert(grpc::StatusCode code) { return ordinald::testing::code_name(code); }
