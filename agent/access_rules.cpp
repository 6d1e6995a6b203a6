#include "agent/access_rules.hpp"

namespace ordinald::agent {
namespace {

using mount::ErrorCode;
using mount::make_error;

/// What differs between two publications on one target; empty: nothing that counts.
std::string difference(const Publication& held, const Publication& asked) {
  if (held.block != asked.block) {
    return "access type";
  }
  if (held.mode != asked.mode) {
    return "access mode";
  }
  if (held.read_only != asked.read_only) {
    return "readonly";
  }
  if (held.flags_digest != unknown_digest && held.flags_digest != asked.flags_digest) {
    return "mount flags";
  }
  if (held.fs_type != asked.fs_type) {
    return "fs_type";
  }
  if (held.group && held.group != asked.group) {
    return "volume_mount_group";
  }
  if (held.staging_path != asked.staging_path) {
    return "staging path";
  }
  if (!is_same(held.holder, asked.holder)) {
    return "holder (" + to_string(asked.holder) + ")";
  }
  return {};
}

}  // namespace

bool allows_several_targets(AccessMode mode) {
  switch (mode) {
    case AccessMode::single_node_writer:
    case AccessMode::single_node_reader_only:
    case AccessMode::single_node_single_writer:
      return false;
    case AccessMode::multi_node_reader_only:
    case AccessMode::multi_node_single_writer:
    case AccessMode::multi_node_multi_writer:
    case AccessMode::single_node_multi_writer:
      return true;
  }
  return false;
}

bool is_reader_only(AccessMode mode) { return mode == AccessMode::single_node_reader_only || mode == AccessMode::multi_node_reader_only; }

std::string_view to_string(AccessMode mode) {
  switch (mode) {
    case AccessMode::single_node_writer:
      return "SINGLE_NODE_WRITER";
    case AccessMode::single_node_reader_only:
      return "SINGLE_NODE_READER_ONLY";
    case AccessMode::multi_node_reader_only:
      return "MULTI_NODE_READER_ONLY";
    case AccessMode::multi_node_single_writer:
      return "MULTI_NODE_SINGLE_WRITER";
    case AccessMode::multi_node_multi_writer:
      return "MULTI_NODE_MULTI_WRITER";
    case AccessMode::single_node_single_writer:
      return "SINGLE_NODE_SINGLE_WRITER";
    case AccessMode::single_node_multi_writer:
      return "SINGLE_NODE_MULTI_WRITER";
  }
  return "UNKNOWN";
}

Result<PublishVerdict> judge_publish(const VolumeState& state, const Publication& asked) {
  if (const Publication* held = state.publication_at(asked.target); held != nullptr) {
    if (const std::string what = difference(*held, asked); !what.empty()) {
      return make_error(ErrorCode::already_exists, "it is published at " + asked.target + " already, for " + to_string(held->holder) +
                                                       " since " + held->since + ", with another " + what);
    }
    return PublishVerdict::repeated;
  }
  for (const FoundMount& held : state.found) {
    return make_error(ErrorCode::failed_precondition, "it is mounted at " + held.path + " for somebody unknown: that was found at " +
                                                          held.since + ", when the agent started and its ledger knew nothing of it; " +
                                                          to_string(asked.holder) + " can't have it at " + asked.target +
                                                          " before that is unpublished");
  }
  for (const Publication& held : state.publications) {
    if (!allows_several_targets(held.mode) || !allows_several_targets(asked.mode)) {
      return make_error(ErrorCode::failed_precondition,
                        "held by " + to_string(held.holder) + " at " + held.target + " as " + std::string{to_string(held.mode)} +
                            " since " + held.since + "; " + to_string(asked.holder) + " can't have it as " +
                            std::string{to_string(asked.mode)} + " at " + asked.target + " before that is unpublished");
    }
    if (held.block && asked.block && held.read_only != asked.read_only) {
      return make_error(ErrorCode::failed_precondition, std::string{"held "} + (held.read_only ? "read-only" : "writable") +
                                                            " as a block device by " + to_string(held.holder) + " at " + held.target +
                                                            " since " + held.since +
                                                            "; read-only is the device's own flag, so it can't be had both ways at once");
    }
  }
  return PublishVerdict::fresh;
}

}  // namespace ordinald::agent
