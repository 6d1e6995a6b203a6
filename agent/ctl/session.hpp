#pragma once

#include <CLI/App.hpp>
#include <chrono>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "agent/ctl/admin_client.hpp"
#include "agent/ctl/console.hpp"
#include "agent/ctl/failure.hpp"

/// One run of ordinalctl: its global options, where it prints, and how it ends. Every command gets it.
///
/// Single-threaded. A command is a function that answers Exit or a Failure; `run_with` binds it to its subcommand, prints a Failure (text:
/// `ordinalctl: why` on stderr; JSON: the agent's error body on stderr) and keeps the exit status. Results go to stdout: text through
/// console(), or with `--output json` one document through print_json().
namespace ordinald::ctl {

class Session {
 public:
  /// Adds the global options to `app`, which must outlive the session. Commands are added after it (commands.hpp).
  explicit Session(CLI::App& app, std::FILE* out = stdout, std::FILE* err = stderr);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  using Command = std::function<Result<Exit>()>;
  void run_with(CLI::App& subcommand, Command command);

  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }  ///< CSI's
  [[nodiscard]] const std::string& claims_dir() const { return claims_dir_; }
  [[nodiscard]] const std::string& admin_socket() const { return admin_socket_; }
  [[nodiscard]] bool json() const { return output_ == "json"; }
  [[nodiscard]] AdminClient admin() const { return AdminClient{admin_socket_}; }

  /// For what may take long.
  [[nodiscard]] AdminClient patient_admin(std::chrono::milliseconds timeout) const { return AdminClient{admin_socket_, timeout}; }

  /// stdout. With `--output json` nothing but print_json may write there.
  Console& console();
  /// stderr: progress and warnings, also with `--output json`.
  Console& notes();
  void print_json(const nlohmann::json& document);

  /// The end of a command that changes things and was called without --yes: says that nothing was done. In JSON the caller has printed
  /// what would be done.
  Exit needs_yes();

  [[nodiscard]] int exit_status() const { return static_cast<int>(exit_); }

 private:
  void report(const Failure& failure);
  Console make_console(std::FILE* file) const;

  std::FILE* out_;
  std::FILE* err_;
  std::string admin_socket_ = "/run/ordinald/admin.sock";
  std::string endpoint_ = "unix:///run/ordinald/csi.sock";
  std::string claims_dir_ = "/etc/ordinald/claims";
  std::string output_ = "text";
  std::string color_ = "auto";
  std::optional<Console> console_;
  std::optional<Console> notes_;
  Exit exit_ = Exit::done;
};

/// A member of the agent's answer, tolerant of an older or newer agent: the fallback where it is missing or of another type.
std::string text_at(const nlohmann::json& object, std::string_view key);
std::int64_t number_at(const nlohmann::json& object, std::string_view key);
bool flag_at(const nlohmann::json& object, std::string_view key);
/// An empty array where there is none.
const nlohmann::json& list_at(const nlohmann::json& object, std::string_view key);
/// An empty object where there is none.
const nlohmann::json& object_at(const nlohmann::json& object, std::string_view key);

}  // namespace ordinald::ctl
