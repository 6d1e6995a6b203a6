#include "agent/ctl/admin_client.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/ctl/text.hpp"

namespace ordinald::ctl {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

constexpr std::uint64_t answer_limit = std::uint64_t{256} << 20;

/// The agent's error body {"error": {"code", "message"}}, or what came instead.
Failure refusal(const http::response<http::string_body>& response) {
  const nlohmann::json body = nlohmann::json::parse(response.body(), nullptr, false);
  const auto word = [&body](const char* key) {
    const auto error = body.is_object() ? body.find("error") : body.end();
    if (error == body.end() || !error->is_object() || !error->contains(key) || !error->at(key).is_string()) {
      return std::string{};
    }
    return error->at(key).get<std::string>();
  };
  const std::string code = word("code");
  std::string message = word("message");
  if (message.empty()) {
    message = "the agent answered HTTP " + std::to_string(response.result_int()) + " and no reason";
    if (!response.body().empty()) {
      message += ": " + fitted(harmless(response.body()), 200);
    }
  }
  return {code == "ABORTED" ? Exit::busy : Exit::failed, code, message};
}

}  // namespace

Failure unreachable(const std::string& socket_path, int sys_errno) {
  std::string message = "no agent at " + socket_path + ": ";
  switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
      message += "there is no such socket. Is ordinald running (systemctl status ordinald), and is this the socket of its configuration?";
      break;
    case ECONNREFUSED:
      message += "nobody listens on it; the agent that made it has ended. See `systemctl status ordinald` and `journalctl -u ordinald`";
      break;
    case EACCES:
    case EPERM:
      message = "may not use " + socket_path + ": permission denied. The agent's sockets are root's alone: try it with sudo";
      break;
    default:
      message += std::strerror(sys_errno);  // NOLINT(concurrency-mt-unsafe): one thread
  }
  return failure(Exit::unreachable, message);
}

std::string percent_encoded(std::string_view segment) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  std::string out;
  for (const char character : segment) {
    if (plain.find(character) != std::string_view::npos) {
      out += character;
    } else {
      const auto byte = static_cast<unsigned char>(character);
      out += '%';
      out += digits[byte >> 4U];
      out += digits[byte & 15U];
    }
  }
  return out;
}

Result<nlohmann::json> AdminClient::get(const std::string& target) const { return request(false, target, ""); }

Result<nlohmann::json> AdminClient::post(const std::string& target, const nlohmann::json& body) const {
  return request(true, target, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Result<nlohmann::json> AdminClient::request(bool is_post, const std::string& target, const std::string& body) const {
  using Local = asio::local::stream_protocol;
  Local::endpoint endpoint;
  try {
    endpoint = Local::endpoint{path_};
  } catch (const boost::system::system_error&) {
    return failure(Exit::usage, "the path of the admin socket is too long for a Unix socket (107 bytes): " + path_);
  }

  http::request<http::string_body> message{is_post ? http::verb::post : http::verb::get, target, 11};
  message.set(http::field::host, "localhost");
  message.set(http::field::user_agent, "ordinalctl/" ORDINALD_VERSION);
  message.set(http::field::connection, "close");
  if (is_post) {
    message.set(http::field::content_type, "application/json");
    message.body() = body;
  }
  message.prepare_payload();

  asio::io_context io;
  beast::basic_stream<Local> stream{io};
  stream.expires_after(timeout_);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(answer_limit);
  boost::system::error_code connected;
  boost::system::error_code talked;
  // The timeout is the stream's, and only of what runs asynchronously.
  stream.async_connect(endpoint, [&](boost::system::error_code error) {
    connected = error;
    if (error) {
      return;
    }
    http::async_write(stream, message, [&](boost::system::error_code write_error, std::size_t) {
      talked = write_error;
      if (!write_error) {
        http::async_read(stream, buffer, parser, [&](boost::system::error_code read_error, std::size_t) { talked = read_error; });
      }
    });
  });
  io.run();

  if (connected && connected != beast::error::timeout) {
    return unreachable(path_, connected.value());
  }
  if (connected == beast::error::timeout || talked == beast::error::timeout) {
    return failure(Exit::unreachable, "the agent at " + path_ + " did not answer " + target + " within " +
                                          duration_text(std::chrono::ceil<std::chrono::seconds>(timeout_)) +
                                          "; it may be stuck: see `journalctl -u ordinald`");
  }
  if (talked) {
    return failure(Exit::unreachable, "the agent at " + path_ + " broke off while it was asked for " + target + " (" + talked.message() +
                                          "); has it ended just now? See `journalctl -u ordinald`");
  }
  const http::response<http::string_body>& response = parser.get();
  if (response.result_int() / 100 != 2) {
    return refusal(response);
  }
  nlohmann::json answer = nlohmann::json::parse(response.body(), nullptr, false);
  if (answer.is_discarded() || !answer.is_object()) {
    return failure(Exit::failed,
                   "what answers at " + path_ + " is no ordinald: to " + target + " it said " + fitted(harmless(response.body()), 100));
  }
  return answer;
}

}  // namespace ordinald::ctl
