#pragma once

#include <cstdint>
#include <span>
#include <string>

/// The kernel's own words about a mount that it refuses, fit to be shown (rule 6: mount flags never are). Stateless; any thread.
namespace ordinald::mount {

/// What the log of a filesystem context (fsopen(2)) holds, joined by "; ". Empty where it says nothing.
std::string read_kernel_words(int context_fd);

/// The words with each option's text, and each part of it that the kernel might quote alone, replaced by `mount_flags[<place>]`.
/// An option without a place, or whose place is UINT32_MAX, is our own and stays.
std::string hide_options(std::string words, std::span<const std::string> options, std::span<const std::uint32_t> places);

}  // namespace ordinald::mount
