#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "tests/model/step.hpp"

namespace ordinald::testing {

/// The agent's own files, broken and mended as a bad disk, a careless hand and a person with a copy do. The agent is down meanwhile.
class AgentFiles {
 public:
  AgentFiles(std::filesystem::path state_dir, std::filesystem::path run_dir)
      : records_(state_dir / "volumes"), ledger_(run_dir / "ledger") {}

  /// False: there was nothing to wound.
  bool wound(const Wound& wound, const std::string& id);

  /// Ids of records, those set aside too, and of ledger entries; anything else there is a stranger.
  void list(std::set<std::string>& records, std::set<std::string>& ledger, std::vector<std::string>& strangers) const;

  /// What the volume's files say.
  [[nodiscard]] std::string show(const std::string& id) const;

 private:
  std::filesystem::path records_;
  std::filesystem::path ledger_;
  std::map<std::string, std::string> copies_;  ///< id → the record as it was
};

}  // namespace ordinald::testing
