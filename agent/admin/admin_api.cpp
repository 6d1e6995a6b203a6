#include "agent/admin/admin_api.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "agent/admin/adoption_view.hpp"
#include "agent/strict_json.hpp"

namespace ordinald::agent {
namespace {

using nlohmann::json;

/// How long a change by hand waits for a call that works on the volume.
constexpr auto lock_patience = std::chrono::seconds{10};

AdminAnswer with(const json& body) { return {.status = 200, .body = body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"}; }

unsigned http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::out_of_range:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::already_exists:
    case ErrorCode::failed_precondition:
    case ErrorCode::aborted:
      return 409;
    case ErrorCode::unimplemented:
      return 501;
    case ErrorCode::resource_exhausted:
    case ErrorCode::unavailable:
      return 503;
    case ErrorCode::internal:
      return 500;
  }
  return 500;
}

int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// The path's segments, decoded; nothing where it isn't one.
std::optional<std::vector<std::string>> split_path(std::string_view target) {
  target = target.substr(0, target.find('?'));
  if (!target.starts_with("/v1/")) {
    return std::nullopt;
  }
  target.remove_prefix(4);
  std::vector<std::string> segments(1);
  for (std::size_t i = 0; i < target.size(); ++i) {
    if (target[i] == '/') {
      segments.emplace_back();
    } else if (target[i] != '%') {
      segments.back() += target[i];
    } else {
      const int high = i + 2 < target.size() ? hex_digit(target[i + 1]) : -1;
      const int low = i + 2 < target.size() ? hex_digit(target[i + 2]) : -1;
      if (high < 0 || low < 0) {
        return std::nullopt;
      }
      segments.back() += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return segments;
}

/// A body's members, texts and flags; any other key is refused.
class Members {
 public:
  static Result<Members> read(std::string_view body, std::initializer_list<const char*> known) {
    TRY(json document, parse_strict_json(body, {.bytes = 65536, .depth = 4}));
    if (!document.is_object()) {
      return mount::make_error(ErrorCode::invalid_argument, "the body must be a JSON object");
    }
    for (const auto& [key, value] : document.items()) {
      if (std::ranges::find(known, key, [](const char* each) { return std::string{each}; }) == known.end()) {
        return mount::make_error(ErrorCode::invalid_argument, "the body has an unknown key " + describe(json(key)));
      }
    }
    return Members{std::move(document)};
  }

  [[nodiscard]] Result<std::string> text(const char* key, bool required) const {
    const auto found = document_.find(key);
    if (found == document_.end() && !required) {
      return std::string{};
    }
    if (found == document_.end() || !found->is_string() || (required && found->get_ref<const std::string&>().empty())) {
      return mount::make_error(ErrorCode::invalid_argument, std::string{"the body's "} + key + " must be a text");
    }
    return found->get<std::string>();
  }

  /// False where it is missing.
  [[nodiscard]] Result<bool> flag(const char* key) const {
    const auto found = document_.find(key);
    if (found != document_.end() && !found->is_boolean()) {
      return mount::make_error(ErrorCode::invalid_argument, std::string{"the body's "} + key + " must be true or false");
    }
    return found != document_.end() && found->get<bool>();
  }

 private:
  explicit Members(json document) : document_(std::move(document)) {}
  json document_;
};

/// RFC 1123: lower-case letters, digits and dashes; a claim's name may have dots too.
bool is_name(const std::string& text, std::size_t longest, bool dots) {
  const auto safe = [&](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || (dots && c == '.'); };
  const auto edge = [](char c) { return c != '-' && c != '.'; };
  return !text.empty() && text.size() <= longest && std::ranges::all_of(text, safe) && edge(text.front()) && edge(text.back());
}

Result<void> check_claim(const Claim& claim) {
  if (!is_name(claim.name_space, 63, false) || !is_name(claim.name, 253, true)) {
    return mount::make_error(ErrorCode::invalid_argument,
                             "namespace and claim must be names of lower-case letters, digits and dashes, such as prod and data-db-1");
  }
  return mount::success();
}

csi::CallContext soon() { return {.deadline = std::chrono::steady_clock::now() + lock_patience}; }

Error no_such_path(const std::string& what) { return mount::make_error(ErrorCode::not_found, "there is nothing at this path" + what); }

}  // namespace

AdminAnswer AdminApi::refusal(unsigned status, std::string_view code, const std::string& message) {
  AdminAnswer answer = with({{"error", {{"code", code}, {"message", message}}}});
  answer.status = status;
  return answer;
}

AdminAnswer AdminApi::refusal(const mount::Error& error) {
  std::string code{mount::to_string(error.code)};
  std::ranges::transform(code, code.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return refusal(http_status(error.code), code, error.message);
}

bool AdminApi::is_quick(bool post, std::string_view target) { return !post && !target.ends_with("/explain"); }

AdminAnswer AdminApi::answer(std::string_view method, std::string_view target, std::string_view body, const std::stop_token& stop) {
  try {
    const auto path = split_path(target);
    if (!path) {
      return refusal(no_such_path("; paths begin with /v1/"));
    }
    if (method != "GET" && method != "POST") {
      return refusal(405, "UNIMPLEMENTED", "GET and POST are served");
    }
    auto result = method == "GET" ? get(*path) : post(*path, body, stop);
    return result ? std::move(result).value() : refusal(result.error());
  } catch (const std::exception& error) {
    return refusal(mount::make_error(ErrorCode::internal, std::string{"a bug: "} + error.what()));
  }
}

Result<AdminAnswer> AdminApi::get(const Segments& path) {
  if (path.size() == 1) {
    const std::string& what = path[0];
    if (what == "status") return with(node_.status());
    if (what == "volumes") return with(node_.volumes());
    if (what == "pools") return with(node_.pools());
    if (what == "orphans") return with(node_.orphans());
    if (what == "doctor") return with(node_.doctor());
  }
  if (path[0] == "volumes" && (path.size() == 2 || (path.size() == 3 && path[2] == "explain"))) {
    TRY(const std::string id, resolve_volume(volumes_.core(), path[1]));
    const NodeLook node = node_.look();
    if (path.size() == 2) {
      return with(whole_volume_json(volumes_, id, node, node_.devices_health(id)));
    }
    TRY(const json explanation, explanation_json(volumes_, id, node));
    return with(explanation);
  }
  return no_such_path("");
}

Result<AdminAnswer> AdminApi::post(const Segments& path, std::string_view body, const std::stop_token& stop) {
  if (path.size() == 2 && path[0] == "orphans" && path[1] == "repair") {
    const auto before = volumes_.repair_counts();
    volumes_.repair(stop);
    json repaired = json::object();
    for (const auto& [kind, number] : volumes_.repair_counts()) {
      const auto known = before.find(kind);
      const std::uint64_t more = number - (known == before.end() ? 0 : known->second);
      if (more > 0) {
        repaired[kind] = more;
      }
    }
    return with({{"repaired", std::move(repaired)}, {"findings", findings_json(volumes_.findings())}});
  }
  if (path.size() == 3 && path[0] == "volumes" && (path[2] == "rebind" || path[2] == "release")) {
    TRY(const std::string id, resolve_volume(volumes_.core(), path[1]));
    return path[2] == "rebind" ? rebind(id, body) : release(id, body);
  }
  if (path.size() == 1 && path[0] == "adopt") {
    return adopt(body);
  }
  return no_such_path("");
}

Result<AdminAnswer> AdminApi::rebind(const std::string& id, std::string_view body) {
  TRY(const Members members, Members::read(body, {"namespace", "claim"}));
  Claim claim;
  TRY(claim.name_space, members.text("namespace", true));
  TRY(claim.name, members.text("claim", true));
  TRYV(check_claim(claim));
  TRY(const std::string note, volumes_.rebind(soon(), id, claim));
  json answer = volume_json(volumes_, id, node_.look());
  answer["note"] = note;
  return with(answer);
}

Result<AdminAnswer> AdminApi::adopt(std::string_view body) {
  TRY(const Members members, Members::read(body, {"path", "dryRun", "name", "namespace", "claim", "pool", "identity", "copyOf", "uuid"}));
  AdoptionRequest request;
  TRY(request.path, members.text("path", true));
  TRY(const bool only_plan, members.flag("dryRun"));
  TRY(request.name, members.text("name", false));
  TRY(request.pool, members.text("pool", false));
  TRY(request.copy_of, members.text("copyOf", false));
  TRY(request.uuid, members.text("uuid", false));
  TRY(const std::string name_space, members.text("namespace", false));
  TRY(const std::string claim, members.text("claim", false));
  if (!name_space.empty() || !claim.empty()) {
    request.claim = Claim{name_space, claim};
    TRYV(check_claim(*request.claim));
  }
  TRY(const std::string identity, members.text("identity", false));
  request.identity = parse_identity(identity);
  if (!identity.empty() && !request.identity) {
    return mount::make_error(ErrorCode::invalid_argument, "identity must be ordinal, claim or none");
  }
  TRY(const AdoptionPlan plan, volumes_.adopt(soon(), request, only_plan));
  return with(adoption_json(volumes_, plan, node_.look()));
}

Result<AdminAnswer> AdminApi::release(const std::string& id, std::string_view body) {
  TRY(const Members members, Members::read(body, {"holder", "target"}));
  TRY(const std::string holder, members.text("holder", true));
  TRY(const std::string target, members.text("target", false));
  TRY(const auto ended, volumes_.release(soon(), id, holder, target));
  json released = json::array();
  for (const Hold& hold : ended) {
    released.push_back({{"target", hold.target}, {"holder", holder_json(hold.holder)}});
  }
  json left = json::array();
  const VolumeState state = volumes_.core().ledger->state(id);
  for (const Publication& held : state.publications) {
    left.push_back({{"target", held.target}, {"holder", holder_json(held.holder)}});
  }
  for (const FoundMount& found : state.found) {
    left.push_back({{"path", found.path}});
  }
  for (const Stage& stage : state.stages) {
    left.push_back({{"path", stage.path}});
  }
  return with({{"released", std::move(released)}, {"left", std::move(left)}});
}

}  // namespace ordinald::agent
