#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

/// What the fault suites count and measure. Threading: any.
namespace ordinald::testing {

/// One more fault of this group (`devices`, `space`, `load`) has been tried.
void count_fault(const std::string& group);
/// Prints `COUNT: faults: devices 12, space 9`.
void print_fault_counts();
/// Prints `COUNT: <text>`: a figure for the run's summary.
void print_figure(const std::string& text);

/// Milliseconds that the work takes.
double timed_ms(const std::function<void()>& work);
double median(std::vector<double> values);
/// `1.23`.
std::string two_digits(double value);

/// A process and all that come from it.
std::vector<pid_t> process_tree(pid_t root);
/// Bytes resident of these together: what several share counts by its share (Pss).
std::uint64_t resident(const std::vector<pid_t>& pids);
/// How many descriptors it has open.
std::size_t open_descriptors(pid_t pid);
/// `R`, `S`, `D` …; '?' when it is gone.
char state_of(pid_t pid);

}  // namespace ordinald::testing
