/// Both ends of the admin interface. Any bytes as a request: HTTP, path and body, through the real parser and AdminApi to an agent on the
/// fake kernel; the answer is JSON, and a refusal has its code and text. Any bytes as an answer: ordinalctl's commands end with one of
/// their statuses, and what they print drives no terminal. And any text as the file in which ordinalctl keeps where a claim put what. The
/// first byte says which.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/admin/admin_request.hpp"
#include "agent/ctl/claim_place.hpp"
#include "agent/ctl/commands.hpp"
#include "agent/ctl/session.hpp"
#include "agent/volume_manager.hpp"
#include "tests/fuzz/must.hpp"
#include "tests/support/fake_kernel.hpp"
#include "tests/support/logs.hpp"
#include "tests/support/temp.hpp"

namespace {

using namespace ordinald;
using nlohmann::json;
using ordinald::fuzz::must;

const std::filesystem::path& directory() {
  static const testing::TempDir one{"fuzz"};
  return one.path();
}

// --- requests ---

/// An agent with a volume that is published (`db-0`) and one that is not (`spare`).
class Agent {
 public:
  Agent() {
    std::filesystem::create_directory(directory() / "run");
    node_.with([](testing::FakeState& state) {
      state.add_pool("/pool", 1ULL << 40U);
      state.add_directory("/pods");
    });
    agent::Config config;
    config.node_id = "n1";
    config.state_dir = directory() / "state";
    config.run_dir = directory() / "run";
    config.pools = {agent::PoolConfig{.name = "default", .directory = "/pool", .thick = false, .is_default = true}};
    auto opened = agent::VolumeManager::open(config, node_, testing::quiet_log(), {.boot_id = "boot", .grows_mounted_ext4 = true});
    must(opened.has_value());
    volumes_ = std::move(opened.value());
    api_ = std::make_unique<agent::AdminApi>(*volumes_, [] { return std::vector<mount::Hang>{}; });
    id_ = create("db-0");
    create("spare");
    must(
        volumes_->stage({}, {.volume_id = id_, .staging_path = "/stage", .capability = mount_, .publish_context = {}, .volume_context = {}})
            .has_value());
  }

  agent::AdminAnswer answer(std::string_view method, std::string_view target, std::string_view body) {
    publish();
    return api_->answer(method, target, body, {});
  }

 private:
  std::string create(const std::string& name) {
    auto made = volumes_->create_volume(
        {}, {.name = name, .capacity = {.required = 1 << 30}, .capabilities = {mount_}, .parameters = {}, .requisite = {}});
    must(made.has_value());
    return made.value().id;
  }
  /// A request may have ended it.
  void publish() {
    (void)volumes_->publish({}, {.volume_id = id_,
                                 .staging_path = "/stage",
                                 .target_path = "/pods/a",
                                 .capability = mount_,
                                 .readonly = false,
                                 .publish_context = {},
                                 .volume_context = {{"csi.storage.k8s.io/pod.name", "db-0"},
                                                    {"csi.storage.k8s.io/pod.namespace", "prod"},
                                                    {"csi.storage.k8s.io/pod.uid", "u-1"}}});
  }

  testing::FakeNode node_;
  csi::Capability mount_{
      .block = false, .mode = csi::AccessMode::single_node_single_writer, .fs_type = "ext4", .mount_flags = {}, .group = {}};
  std::unique_ptr<agent::VolumeManager> volumes_;
  std::unique_ptr<agent::AdminApi> api_;
  std::string id_;
};

void check_answer(const agent::AdminAnswer& answer) {
  constexpr std::array known{200U, 400U, 404U, 405U, 409U, 413U, 431U, 500U, 501U, 503U};
  must(std::ranges::find(known, answer.status) != known.end());
  const json body = json::parse(answer.body, nullptr, false);
  must(body.is_object() && answer.body.ends_with('\n'));
  if (answer.status == 200) {
    must(!body.contains("error"));
    return;
  }
  const auto& error = body.at("error");
  const auto message = error.at("message").get<std::string>();
  must(!message.empty() && !error.at("code").get<std::string>().empty());
  must(!message.starts_with("a bug"));
}

void check_request(std::string_view bytes) {
  static Agent agent;
  agent::AdminRequestParser parser;
  parser.eager(true);
  agent::set_bounds(parser);
  boost::system::error_code error;
  while (!error && !parser.is_done() && !bytes.empty()) {
    const std::size_t used = parser.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    bytes.remove_prefix(used);
    if (error == boost::beast::http::error::need_more) {
      parser.put_eof(error = {});
      break;
    }
  }
  if (error || !parser.is_done()) {
    const auto refusal = agent::refuse_request(error);
    if (refusal) check_answer(*refusal);
    return;
  }
  const auto& request = parser.get();
  must(request.body().size() <= 65536);
  check_answer(agent.answer(request.method_string(), request.target(), request.body()));
}

// --- answers ---

/// Answers every request with the same bytes.
class Server {
 public:
  Server() : path_(directory() / "admin.sock"), listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    must(path_.size() < sizeof address.sun_path);
    path_.copy(address.sun_path, path_.size());
    must(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::listen(listener_, 8) == 0);
    std::thread([this] { serve(); }).detach();  // until the process ends
  }
  void answer(std::string bytes) {
    const std::scoped_lock lock{mutex_};
    bytes_ = std::move(bytes);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  [[noreturn]] void serve() {
    while (true) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      char request[4096];
      (void)::recv(client, request, sizeof request, 0);  // whole: ordinalctl's are short
      std::string bytes;
      {
        const std::scoped_lock lock{mutex_};
        bytes = bytes_;
      }
      (void)::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ::close(client);
    }
  }

  std::string path_;
  int listener_;
  std::mutex mutex_;
  std::string bytes_;
};

struct Command {
  void (*add)(CLI::App& app, ctl::Session& session);
  std::vector<std::string> words;
};

const std::vector<Command>& commands() {
  static const std::vector<Command> all{
      {&ctl::add_status, {"status"}},
      {&ctl::add_volumes, {"volumes"}},
      {&ctl::add_show, {"show", "v"}},
      {&ctl::add_explain, {"explain", "v"}},
      {&ctl::add_pools, {"pools"}},
      {&ctl::add_orphans, {"orphans"}},
      {&ctl::add_orphans, {"orphans", "--repair", "--yes"}},
      {&ctl::add_rebind, {"rebind", "v", "prod/data-db-0", "--yes"}},
      {&ctl::add_release, {"release", "v", "--holder", "prod/db-0", "--yes"}},
      {&ctl::add_adopt, {"adopt", "/etc/passwd", "--yes"}},
  };
  return all;
}

void check_printed(std::string_view text) {
  must(std::ranges::none_of(text, [](unsigned char c) { return (c < ' ' && c != '\n') || c == 0x7F; }));
}

/// Runs ordinalctl's command as its program does.
void check_command(const Command& command, std::string bytes, bool as_json) {
  static Server server;
  server.answer(std::move(bytes));
  char* out_text = nullptr;
  std::size_t out_size = 0;
  std::FILE* out = ::open_memstream(&out_text, &out_size);
  int status = -1;
  {
    CLI::App app{"", "ordinalctl"};
    ctl::Session session{app, out, out};
    command.add(app, session);
    std::vector<std::string> words{command.words.rbegin(), command.words.rend()};  // CLI11 takes them from behind
    words.insert(words.begin(), {"never", "--color", server.path(), "--admin-socket"});
    if (as_json) {
      words.insert(words.begin(), {"json", "--output"});
    }
    app.parse(words);
    status = session.exit_status();
  }
  std::fclose(out);
  check_printed({out_text, out_size});
  std::free(out_text);
  must(status >= 0 && status <= 6);
}

std::string as_http(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\nConnection: close\r\n\r\n" + std::string{body};
}

// --- /run/ordinald-claims/db-0.json ---

void check_claimed(std::string_view text) {
  static const bool told = ::setenv("ORDINALD_CLAIMS_RUN_DIR", directory().c_str(), 1) == 0;
  must(told);
  testing::write_file(directory() / "db-0.json", text);
  if (const auto claimed = ctl::load_claimed("db-0")) {
    must(ctl::save_claimed("db-0", *claimed).has_value());
    const auto again = ctl::load_claimed("db-0");
    must(again && again->volumes == claimed->volumes && again->by == claimed->by);
  }
  must(ctl::save_claimed("db-0", {.volumes = {}, .by = std::string{text}}).has_value() && ctl::load_claimed("db-0").has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  const std::size_t kind = data[0] % 64;
  if (kind < 32) {
    check_request(bytes);
  } else if (kind < 34) {
    check_claimed(bytes);
  } else {
    const bool raw = data[0] >= 192;
    check_command(commands()[kind % commands().size()], raw ? std::string{bytes} : as_http(bytes), data[0] >= 128 && !raw);
  }
  return 0;
}
