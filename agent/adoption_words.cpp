#include "agent/adoption_words.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "agent/path_words.hpp"

namespace ordinald::agent {

const std::string& source_of(const AdoptionRequest& request) { return request.copy_of.empty() ? request.path : request.copy_of; }

std::string stem_of(const std::string& path) {
  const std::string file = file_of(path);
  return file.ends_with(".img") && file.size() > 4 ? file.substr(0, file.size() - 4) : file;
}

std::string quoted(const std::string& word) {
  const bool plain = std::ranges::all_of(
      word, [](unsigned char c) { return std::isalnum(c) != 0 || std::string_view{"/._-+:@,%"}.contains(static_cast<char>(c)); });
  if (plain) {
    return word;
  }
  std::string text = "'";
  for (const char c : word) {
    text += c == '\'' ? std::string{"'\\''"} : std::string{c};
  }
  return text + "'";
}

std::string copy_command(const AdoptionRequest& request, const std::string& pool_directory) {
  const std::string copy = pool_directory + "/" + stem_of(request.path) + ".img";
  std::string text = "[ ! -e " + quoted(copy) + " ] && cp --sparse=always " + quoted(request.path) + " " + quoted(copy) +
                     " && ordinalctl adopt " + quoted(copy);
  if (request.claim) {
    text += " --claim " + quoted(request.claim->name_space + "/" + request.claim->name);
  }
  if (request.identity) {
    text += " --identity " + std::string{to_string(*request.identity)};
  }
  text += request.pool.empty() ? "" : " --pool " + quoted(request.pool);
  return text + (request.name.empty() ? "" : " --name " + quoted(request.name));
}

}  // namespace ordinald::agent
