#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "mount/kernel.hpp"

/// The contract of mount/kernel.hpp as tests: a case for each of its sentences, run against every implementation. A case is a function
/// of a ContractNode; contract_fake_test.cpp, contract_linux_test.cpp and contract_remote_test.cpp each register all of them.
namespace ordinald::testing {

/// Whatever goes when the last copy does: an open file, a process in another mount namespace.
using Hold = std::shared_ptr<void>;

struct FileMode {
  std::uint32_t gid = 0;
  std::uint32_t mode = 0;  ///< permission bits, with setuid, setgid and sticky
  bool operator==(const FileMode&) const = default;
};

/// A node to try a Kernel on, empty at first, and what a case does to it behind the kernel's back. Nothing of it outlives the object.
/// Errors: a step that can't be done throws.
class ContractNode {
 public:
  ContractNode() = default;
  ContractNode(const ContractNode&) = delete;
  ContractNode& operator=(const ContractNode&) = delete;
  virtual ~ContractNode() = default;

  virtual mount::Kernel& kernel() = 0;
  /// An empty pool's directory, and another on a file system of some 64 MiB.
  virtual std::string pool() = 0;
  virtual std::string small_pool() = 0;
  /// An empty directory to mount in.
  virtual std::string work() = 0;

  virtual void make_directory(const std::string& path) = 0;
  virtual void make_symlink(const std::string& path, const std::string& to) = 0;
  /// errno, 0 when written.
  virtual int write_file(const std::string& path, const std::string& text) = 0;
  virtual std::optional<std::string> read_file(const std::string& path) = 0;
  virtual FileMode mode_of(const std::string& path) = 0;
  virtual void set_mode(const std::string& path, const FileMode& mode) = 0;
  /// Opens the device for writing and writes a byte: errno, 0 when written.
  virtual int write_device(const std::string& path) = 0;

  /// A LUKS header, or one byte that is not zero, in an image that is not attached.
  virtual void write_luks(const mount::ImageRef& image) = 0;
  virtual void write_byte(const mount::ImageRef& image, std::uint64_t offset) = 0;

  virtual Hold hold_open(const std::string& path) = 0;
  /// Opens the device O_EXCL.
  virtual Hold hold_device(const std::string& path) = 0;
  /// A process with a mount namespace of its own, in which all that is mounted now stays so.
  virtual Hold pin(const std::string& path) = 0;
  /// Whether control groups can be made here.
  virtual bool has_cgroups() = 0;
  /// A process in a control group of that name, with a mount namespace of its own in which all that is mounted now stays so.
  virtual Hold run_in_cgroup(const std::string& group, const std::string& path) = 0;
  /// A tmpfs, on an existing directory.
  virtual void mount_foreign(const std::string& path) = 0;
  /// What is mounted at the path, once more over itself.
  virtual void stack(const std::string& path) = 0;
};

}  // namespace ordinald::testing

/// Every case, for `CASE(name)` to make something of.
#define ORDINALD_KERNEL_CONTRACT(CASE)                     \
  CASE(create_image_makes_it_marked_and_of_its_size)       \
  CASE(create_image_keeps_the_label_it_was_made_with)      \
  CASE(create_image_allocates_a_thick_one)                 \
  CASE(create_image_again_grows_and_never_shrinks)         \
  CASE(create_image_refuses_what_is_not_this_volumes)      \
  CASE(create_image_without_room_leaves_nothing)           \
  CASE(inspect_image_tells_what_is_there)                  \
  CASE(resize_image_grows_and_never_shrinks)               \
  CASE(relabel_image_replaces_the_label)                   \
  CASE(adopt_image_moves_a_file_as_it_is)                  \
  CASE(adopt_image_refuses_what_it_may_not_take)           \
  CASE(survey_tells_what_a_file_holds_and_changes_nothing) \
  CASE(survey_tells_what_it_can_of_others)                 \
  CASE(remove_image_takes_this_volumes_only)               \
  CASE(inspect_pool_lists_images)                          \
  CASE(open_pool_gives_what_one_can_lock)                  \
  CASE(mark_pool_marks_it_once)                            \
  CASE(attach_gives_one_device_for_one_image)              \
  CASE(attach_refuses_what_is_not_this_volumes)            \
  CASE(find_attached_finds_also_of_a_removed_image)        \
  CASE(loops_lists_what_is_attached)                       \
  CASE(detach_takes_the_device_away_once)                  \
  CASE(detach_is_refused_while_mounted)                    \
  CASE(a_device_of_another_identity_is_refused)            \
  CASE(a_device_number_used_again_is_another_device)       \
  CASE(the_read_only_flag_is_the_devices)                  \
  CASE(a_new_device_is_writable)                           \
  CASE(refuse_discard_keeps_every_block)                   \
  CASE(refresh_device_size_follows_the_image)              \
  CASE(probe_proves_a_blank_device)                        \
  CASE(probe_proves_a_thick_image_blank_again_and_again)   \
  CASE(probe_finds_ext4)                                   \
  CASE(probe_finds_xfs)                                    \
  CASE(probe_finds_btrfs)                                  \
  CASE(probe_finds_what_is_no_filesystem)                  \
  CASE(probe_finds_data_without_a_signature)               \
  CASE(probe_calls_nothing_blank_that_is_busy)             \
  CASE(probe_refuses_anothers_image)                       \
  CASE(erase_empties_the_device)                           \
  CASE(erase_is_refused_while_mounted)                     \
  CASE(mount_makes_the_target_and_data_survives)           \
  CASE(mount_again_is_one_mount)                           \
  CASE(mount_at_a_second_path_is_the_same_filesystem)      \
  CASE(mount_refuses_targets_that_are_not_free)            \
  CASE(mount_names_a_refused_option_by_its_place)          \
  CASE(mount_refuses_what_is_not_that_filesystem)          \
  CASE(mount_refuses_a_second_xfs_of_one_uuid)             \
  CASE(mount_attributes_are_the_mount_points)              \
  CASE(bind_shows_the_directory_with_its_attributes)       \
  CASE(bind_shows_the_device)                              \
  CASE(bind_again_is_one_mount)                            \
  CASE(bind_refuses_a_source_that_is_not_expected)         \
  CASE(bind_refuses_targets_that_are_not_free)             \
  CASE(unmount_repeats_and_removes_as_asked)               \
  CASE(unmount_never_removes_content)                      \
  CASE(unmount_leaves_what_is_not_expected)                \
  CASE(unmount_is_refused_while_busy)                      \
  CASE(unmount_takes_all_that_is_stacked)                  \
  CASE(unmount_never_follows_a_symlink)                    \
  CASE(inspect_path_tells_what_is_there)                   \
  CASE(mount_table_is_unescaped)                           \
  CASE(staging_places_are_told_by_their_files)             \
  CASE(usage_is_of_what_is_mounted)                        \
  CASE(grow_filesystem_grows_xfs)                          \
  CASE(grow_filesystem_grows_btrfs)                        \
  CASE(grow_filesystem_grows_ext4_or_says_why_not)         \
  CASE(grow_filesystem_refuses_another_path)               \
  CASE(apply_group_gives_all_beneath_to_the_group)         \
  CASE(apply_group_looks_at_the_root_only_when_it_is_done) \
  CASE(pins_are_the_other_namespaces)                      \
  CASE(cgroup_users_are_those_that_have_the_volume)        \
  CASE(removing_the_target_lets_go_of_it_elsewhere)        \
  CASE(a_pinned_filesystem_is_mounted_again_with_its_data) \
  CASE(run_tool_answers_status_and_output)                 \
  CASE(run_tool_needs_no_device)                           \
  CASE(run_tool_says_what_it_could_not_start)              \
  CASE(run_tool_ends_at_its_deadline)                      \
  CASE(tools_refuse_a_device_in_use)                       \
  CASE(ext4_grows_offline_after_a_whole_check)             \
  CASE(mkfs_of_xfs_and_btrfs_refuse_an_existing_filesystem)

namespace ordinald::testing::contract {

#define ORDINALD_DECLARE_CASE(name) void name(ContractNode& node);
ORDINALD_KERNEL_CONTRACT(ORDINALD_DECLARE_CASE)
#undef ORDINALD_DECLARE_CASE

}  // namespace ordinald::testing::contract
