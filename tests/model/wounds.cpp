#include "tests/model/wounds.hpp"

#include <algorithm>

#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace fs = std::filesystem;

bool AgentFiles::wound(const Wound& wound, const std::string& id) {
  const fs::path record = records_ / (id + ".json");
  const fs::path aside = records_ / (id + ".json.damaged");
  const fs::path entry = ledger_ / (id + ".json");
  switch (wound.kind) {
    case Wound::Kind::lose_ledger:
      return fs::remove(entry);
    case Wound::Kind::garble_ledger:
      if (!fs::exists(entry)) {
        return false;
      }
      write_file(entry, "{\"schema\": 1, \"boo");
      return true;
    case Wound::Kind::truncate_record:
    case Wound::Kind::garble_record: {
      if (!fs::exists(record)) {
        return false;
      }
      const std::string text = read_file(record);
      copies_[id] = text;
      std::string bad = text.substr(0, wound.where % text.size());
      if (wound.kind == Wound::Kind::garble_record) {
        bad = "\x01garbage " + std::to_string(wound.where);
      }
      write_file(record, bad);
      return true;
    }
    case Wound::Kind::mend_record:
      // As a person would, who has a copy: only where the agent has not helped itself.
      if (!fs::exists(aside) || fs::exists(record) || !copies_.contains(id)) {
        return false;
      }
      write_file(record, copies_.at(id));
      fs::remove(aside);
      return true;
  }
  return false;
}

void AgentFiles::list(std::set<std::string>& records, std::set<std::string>& ledger, std::vector<std::string>& strangers) const {
  const auto read = [&](const fs::path& directory, std::set<std::string>& ids) {
    std::error_code error;
    for (const fs::directory_entry& file : fs::directory_iterator(directory, error)) {
      std::string name = file.path().filename();
      if (const auto aside = name.find(".json.damaged"); aside != std::string::npos) {
        if (&ids == &ledger) {
          continue;  // set aside for a person, and of no meaning
        }
        name.resize(aside + std::string_view{".json"}.size());
      }
      if (name.ends_with(".json")) {
        ids.insert(name.substr(0, name.size() - std::string_view{".json"}.size()));
      } else {
        strangers.push_back(file.path());
      }
    }
  };
  read(records_, records);
  read(ledger_, ledger);
}

std::string AgentFiles::show(const std::string& id) const {
  std::string text;
  for (const auto& [what, file] : {std::pair{"ledger", ledger_ / (id + ".json")},
                                   {"record", records_ / (id + ".json")},
                                   {"record set aside", records_ / (id + ".json.damaged")}}) {
    if (fs::exists(file)) {
      std::string content = read_file(file);
      std::erase_if(content, [](char each) { return each == '\n' || each == ' '; });
      text += std::string{"its "} + what + ": " + content + "\n";
    }
  }
  return text;
}

}  // namespace ordinald::testing
