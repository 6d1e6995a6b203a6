#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

/// The program `ordinalctl` (or another one) run as a shell would run it. Single-threaded. Errors: throws std::system_error.
namespace ordinald::testing {

struct Ran {
  int status = -1;  ///< exit status; 128 and the signal otherwise
  std::string out;
  std::string err;

  /// stdout as JSON; a discarded value where it is none.
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};
std::ostream& operator<<(std::ostream& stream, const Ran& ran);

using Environment = std::map<std::string, std::string>;

/// Runs an absolute argv in an environment of PATH and `environment` alone; kills it after 60 s.
Ran run_program(const std::vector<std::string>& argv, const Environment& environment = {});

/// The same on a terminal of so many columns, where `typed` is typed; all of its output is `out`.
Ran run_on_terminal(const std::vector<std::string>& argv, unsigned short columns, const Environment& environment = {},
                    const std::string& typed = "");

/// `ordinalctl` with these words; its sockets are those of `admin_socket` and `endpoint` where these are given.
class Ctl {
 public:
  explicit Ctl(std::string admin_socket, std::string endpoint = "unix:///nowhere/csi.sock");

  Ran operator()(std::vector<std::string> words) const;
  /// With `--output json` after the words; fails the test where stdout is not one document.
  nlohmann::json json(std::vector<std::string> words, int status = 0) const;
  Ran on_terminal(std::vector<std::string> words, unsigned short columns, const Environment& environment = {}) const;

 private:
  std::vector<std::string> argv(std::vector<std::string> words) const;
  std::string admin_socket_;
  std::string endpoint_;
};

}  // namespace ordinald::testing
