#include "agent/ctl/session.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <utility>

#include "agent/ctl/text.hpp"

namespace ordinald::ctl {

Session::Session(CLI::App& app, std::FILE* out, std::FILE* err) : out_(out), err_(err) {
  app.fallthrough();  // global options also after the command
  app.require_subcommand(1);
  app.set_version_flag("--version", "ordinalctl " ORDINALD_VERSION);
  app.add_option("--admin-socket", admin_socket_, "The agent's admin socket")
      ->type_name("FILE")
      ->envname("ORDINALD_ADMIN_SOCKET")
      ->capture_default_str();
  app.add_option("--endpoint", endpoint_, "The agent's CSI socket")->type_name("URL")->envname("CSI_ENDPOINT")->capture_default_str();
  app.add_option("--claims-dir", claims_dir_, "Where the claim files are")->type_name("DIR")->capture_default_str();
  app.add_option("--output", output_, "text for people, json for programs")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--color", color_, "auto (on a terminal, and not with NO_COLOR), always or never")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
}

void Session::run_with(CLI::App& subcommand, Command command) {
  subcommand.final_callback([this, command = std::move(command)] {
    const Result<Exit> end = command();
    if (end) {
      exit_ = end.value();
    } else {
      report(end.error());
      exit_ = end.error().status;
    }
  });
}

Console Session::make_console(std::FILE* file) const {
  return Console{file, color_ == "always" ? ColorMode::always : color_ == "never" ? ColorMode::never : ColorMode::automatic};
}

Console& Session::console() {
  if (!console_) {
    console_.emplace(make_console(out_));
  }
  return *console_;
}

Console& Session::notes() {
  if (!notes_) {
    notes_.emplace(make_console(err_));
  }
  return *notes_;
}

void Session::print_json(const nlohmann::json& document) {
  console().raw(document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

Exit Session::needs_yes() {
  notes().line({"Nothing was done. ", Words{"Run it again with --yes to do this.", Tone::bold}});
  return Exit::needs_yes;
}

void Session::report(const Failure& failure) {
  if (json()) {
    nlohmann::json error{{"message", failure.message}};
    error["code"] = failure.code;
    notes().raw(nlohmann::json{{"error", error}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return;
  }
  notes().line({Words{"ordinalctl: ", Tone::bad}, failure.message});
}

namespace {

const nlohmann::json* member(const nlohmann::json& object, std::string_view key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? nullptr : &*found;
}

}  // namespace

std::string text_at(const nlohmann::json& object, std::string_view key) {
  const nlohmann::json* value = member(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string{};
}

std::int64_t number_at(const nlohmann::json& object, std::string_view key) {
  const nlohmann::json* value = member(object, key);
  if (value != nullptr && value->is_number_float()) {
    const double number = value->get<double>();
    constexpr double beyond = 9.2e18;  // a conversion of more is undefined
    return number > -beyond && number < beyond ? static_cast<std::int64_t>(number) : 0;
  }
  return value != nullptr && value->is_number() ? value->get<std::int64_t>() : 0;
}

bool flag_at(const nlohmann::json& object, std::string_view key) {
  const nlohmann::json* value = member(object, key);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

const nlohmann::json& list_at(const nlohmann::json& object, std::string_view key) {
  static const nlohmann::json none = nlohmann::json::array();
  const nlohmann::json* value = member(object, key);
  return value != nullptr && value->is_array() ? *value : none;
}

const nlohmann::json& object_at(const nlohmann::json& object, std::string_view key) {
  static const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json* value = member(object, key);
  return value != nullptr && value->is_object() ? *value : none;
}

}  // namespace ordinald::ctl
