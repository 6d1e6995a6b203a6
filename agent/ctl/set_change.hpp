#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/ctl/claim_file.hpp"
#include "agent/ctl/rollout.hpp"
#include "agent/ctl/session.hpp"
#include "agent/ctl/set_plan.hpp"

/// What `apply`, `scale` and `delete` would do, as it is shown before. Any thread.
namespace ordinald::ctl {

/// What is to be done for a set as a whole.
struct SetChange {
  ClaimSet set{};
  std::string file{};      ///< the claim file in its place
  std::string text{};      ///< that it gets
  std::string file_act{};  ///< `write` or `remove`; empty: it stays
  std::vector<Step> steps{};
  UnitChanges units{};
  std::vector<std::string> remarks{};  ///< what a person may expect of it, and it does not
};

/// `64 MiB -> 128 MiB`, or the one that it has or gets.
std::string size_of(const Step& step);
bool is_done(const SetChange& plan);
nlohmann::json json_of(const SetChange& plan, bool done);
/// On stderr, where the question follows it.
void print_plan(Session& session, const SetChange& plan);

}  // namespace ordinald::ctl
