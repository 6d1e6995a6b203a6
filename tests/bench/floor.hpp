#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

/// The floor that the agent is measured against: the system calls and programs that the work can't do without, made by one plain process,
/// and the durable records, the fsync of the device and the proof of blankness that the rules ask for. No protocol, no worker, no lock, no
/// ledger.
///
/// Errors: throws std::runtime_error. Not thread safe.
namespace ordinald::bench {

class FloorVolume {
 public:
  /// An image of `size` bytes, sparse, with no device yet. `directory` is on the file system where the agent's pool is.
  FloorVolume(std::filesystem::path directory, const std::string& name, std::string fs_type, std::uint64_t size);
  FloorVolume(const FloorVolume&) = delete;
  FloorVolume& operator=(const FloorVolume&) = delete;
  ~FloorVolume();

  void stage_blank();
  void stage_used();
  void publish();
  void unpublish();
  void unstage();

 private:
  void attach();
  void probe(bool blank_expected) const;
  void prove_blank() const;
  void write_record(const char* content) const;
  void run(std::initializer_list<std::string> argv) const;
  void mount() const;

  std::filesystem::path directory_;
  std::string fs_type_;
  std::filesystem::path image_;
  std::filesystem::path staging_;
  std::filesystem::path target_;
  std::filesystem::path record_;
  std::string loop_;
};

}  // namespace ordinald::bench
