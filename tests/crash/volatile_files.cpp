#include "tests/crash/volatile_files.hpp"

#include <stdexcept>

#include "agent/durable_file.hpp"
#include "tests/support/temp.hpp"

namespace ordinald::testing {
namespace fs = std::filesystem;

namespace {

/// Quicker than the tests' own with its buffer for images: it is called a million times.
std::string text_of(const fs::path& path) {
  auto text = agent::read_file(path);
  if (!text) {
    throw std::logic_error{text.error().message};
  }
  return std::move(text.value());
}

}  // namespace

void VolatileFiles::apply(const Change& change, Names& names) {
  for (const auto& [name, file] : change) {
    if (file) {
      names[name] = file;
    } else {
      names.erase(name);
    }
  }
}

void VolatileFiles::change(const fs::path& directory, const Change& change) {
  Directory& where = directories_[directory];
  apply(change, where.now);
  where.pending.push_back(change);
}

void VolatileFiles::acted(std::string_view act, const fs::path& object) {
  if (object != top_ && !object.string().starts_with(top_.string() + "/")) {
    if (act == "fsync of the directory" && object == top_.parent_path()) {
      directories_[top_].durable = true;
    }
    return;
  }
  const fs::path directory = object.parent_path();
  const std::string name = object.filename();
  if (act == "making the directory") {
    directories_.try_emplace(object);
  } else if (act == "making") {
    change(directory, {{name, std::make_shared<File>()}});
  } else if (act == "writing") {
    directories_[directory].now.at(name)->durable = false;
  } else if (act == "fsync") {
    File& file = *directories_[directory].now.at(name);
    file = {.content = text_of(object), .durable = true};
  } else if (act == "renaming to") {
    const std::string from = name + ".tmp";
    change(directory, {{name, directories_[directory].now.at(from)}, {from, nullptr}});
  } else if (act == "removing") {
    change(directory, {{name, nullptr}});
  } else if (act == "fsync of the directory") {
    Directory& where = directories_[object];
    where.kept = where.now;
    where.pending.clear();
    for (auto& [path, inner] : directories_) {
      inner.durable = inner.durable || path.parent_path() == object;
    }
  } else {
    throw std::logic_error{"an act that the model of files does not know: " + std::string{act}};
  }
}

void VolatileFiles::power_loss(Choices& choices) {
  for (auto it = directories_.begin(); it != directories_.end();) {
    auto& [path, directory] = *it;
    if (!directory.durable && choices.yes()) {
      fs::remove_all(path);
      const std::string beneath = path.string() + "/";
      it = directories_.erase(it);
      while (it != directories_.end() && it->first.string().starts_with(beneath)) {
        it = directories_.erase(it);
      }
      continue;
    }
    directory.durable = true;
    Names names = directory.kept;
    for (const Change& change : directory.pending) {
      if (!choices.yes()) {
        apply(change, names);
      }
    }
    // What an inode held is read through the name that it has now, before any is changed.
    std::map<std::string, std::string> contents;
    for (const auto& [name, file] : names) {
      if (!file->durable) {
        std::string whole;
        for (const auto& [now, same] : directory.now) {
          whole = same == file ? text_of(path / now) : whole;
        }
        const std::size_t halves = whole.empty() ? 0 : 2 - choices.choose(3);
        file->content = whole.substr(0, whole.size() * halves / 2);
        file->durable = true;
      }
      contents[name] = file->content;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator{path}) {
      if (!entry.is_directory()) {
        if (!directory.now.contains(entry.path().filename())) {
          throw std::logic_error{"no act has told of " + entry.path().string()};
        }
        fs::remove(entry.path());
      }
    }
    for (const auto& [name, content] : contents) {
      write_file(path / name, content);
    }
    directory.now = directory.kept = names;
    directory.pending.clear();
    ++it;
  }
}

}  // namespace ordinald::testing
