#pragma once

#include <string>

#include "agent/adoption.hpp"

/// Names and commands that an adoption speaks of. Pure functions; any thread.
namespace ordinald::agent {

/// Where the bytes came from that become a volume: the device that a copy was made of, else the file itself.
const std::string& source_of(const AdoptionRequest& request);
/// `data` of /srv/data.img, as a volume's name.
std::string stem_of(const std::string& path);
/// Of a word for a shell: as it is where it needs no quotes.
std::string quoted(const std::string& word);
/// The command for a person who brings a file from elsewhere into the pool.
std::string copy_command(const AdoptionRequest& request, const std::string& pool_directory);

}  // namespace ordinald::agent
