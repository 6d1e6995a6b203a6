#pragma once

#include <string_view>

#ifdef ORDINALD_CRASH_POINTS
#include <atomic>
#include <cstdint>
#include <functional>
#endif

/// Where a test makes the agent die (tests/crash): behind each act whose effect outlives the process. Only builds with the option
/// ORDINALD_CRASH_POINTS have such places; in what is shipped, `acted` is nothing.
///
/// Threading: any thread of any of the agent's processes.
namespace ordinald::mount {

#ifdef ORDINALD_CRASH_POINTS

/// An act has been done: `rename`, and to what. May not return.
void acted(std::string_view act, std::string_view object = {});

/// Called at each act of this thread, for a test that has the agent in its own process. May throw: the agent dies there.
using ActHook = std::function<void(std::string_view act, std::string_view object)>;
void set_act_hook(ActHook hook);

/// What a test shares with the agent's processes, in a file that the environment names as ORDINALD_CRASH_PAGE: it sets `at`, and
/// the process that passes the act of that number kills the daemon and itself.
struct CrashPage {
  std::atomic<std::uint32_t> passed;  ///< acts until now
  std::atomic<std::uint32_t> at;      ///< 0: none
  std::atomic<std::int32_t> daemon;   ///< its pid, set as it starts
  char act[124];                      ///< the one it died at, with its object
};

#else

constexpr void acted(std::string_view /*act*/, std::string_view /*object*/ = {}) {}

#endif

}  // namespace ordinald::mount
