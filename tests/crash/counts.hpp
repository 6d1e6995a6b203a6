#pragma once

namespace ordinald::testing {

/// How many crash points a run has tried, for the summary.
struct CrashCounts {
  int process = 0;                              ///< points at which the agent died
  int power_loss = 0;                           ///< points at which the node lost its power
  int runs = 0;                                 ///< with every way it can have left the files, repeated and reversed
  int ext4 = 0, xfs = 0, btrfs = 0, block = 0;  ///< on the real kernel
  int again = 0;                                ///< agents that died while they recovered from another's death
};
inline CrashCounts crash_counts;

}  // namespace ordinald::testing
