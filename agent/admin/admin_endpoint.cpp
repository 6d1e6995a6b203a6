#include "agent/admin/admin_endpoint.hpp"

#include <fcntl.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <set>
#include <stop_token>
#include <thread>
#include <utility>

#include "agent/admin/admin_request.hpp"
#include "csi/listener.hpp"
#include "csi/redact.hpp"

namespace ordinald::agent {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Local = asio::local::stream_protocol;
using std::chrono::seconds;

constexpr std::size_t most_connections = 64;
constexpr int most_long_works = 16;
/// ordinalctl may be kept waiting for the processor between two of its words, on the very nodes that a person looks at with it.
constexpr seconds client_patience{20};

}  // namespace

/// All but work() runs on its thread.
class AdminEndpoint::Server {
 public:
  Server(std::unique_ptr<csi::Listener> listener, int accepting, AdminApi& api, std::shared_ptr<const mount::Log> log)
      : listener_(std::move(listener)), api_(api), log_(std::move(log)), acceptor_(io_, Local{}, accepting) {
    accept();
    thread_ = std::thread([this] { run(); });
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    stop();
    thread_.join();  // its sessions have ended, and with them all work
    quick_.join();
    slow_.join();
  }

  void stop() {
    if (stopping_.exchange(true)) {
      return;
    }
    listener_->close();
    work_stop_.request_stop();
    asio::post(io_, [this] { let_go(); });
  }

 private:
  class Session;
  void run() {
    while (true) {
      try {
        io_.run();
        return;
      } catch (const std::exception& error) {
        log_->error("a bug in the admin endpoint, which goes on: {}", error.what());
      }
    }
  }
  void let_go();
  void accept();
  void accept_later();
  void ended(Session* session);

  std::unique_ptr<csi::Listener> listener_;
  AdminApi& api_;
  std::shared_ptr<const mount::Log> log_;
  std::atomic<bool> stopping_ = false;
  std::stop_source work_stop_;
  std::atomic<int> long_works_ = 0;
  asio::io_context io_{1};
  Local::acceptor acceptor_;
  asio::steady_timer retry_{io_};
  bool accepting_ = false;
  std::set<Session*> sessions_;
  asio::thread_pool quick_{4};
  asio::thread_pool slow_{4};
  std::thread thread_;
};

/// One connection: reads a request, has it worked on, writes the answer, ends. Keeps itself alive.
class AdminEndpoint::Server::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Server& server, Local::socket socket) : server_(server), stream_(std::move(socket)), patience_(server.io_) {
    server_.sessions_.insert(this);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { server_.ended(this); }

  void read() {
    set_bounds(parser_);
    patience_.expires_after(client_patience);
    patience_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
      if (const auto self = weak.lock(); self != nullptr && !error && self->reading_) {
        self->late_ = true;
        self->stream_.cancel();
      }
    });
    http::async_read(stream_, buffer_, parser_, [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
      self->reading_ = false;
      self->patience_.cancel();
      if (!error) {
        self->work();
      } else if (self->late_) {
        self->write(AdminApi::refusal(
            408, "DEADLINE_EXCEEDED",
            "the request was not there whole within " + std::to_string(client_patience.count()) + " s; where the node is busy, ask again"));
      } else if (auto refusal = refuse_request(error)) {
        self->write(std::move(*refusal));
      }  // else the client has gone
    });
  }

  /// One that is being answered gets its answer.
  void give_up_reading() {
    if (reading_) {
      stream_.cancel();
    }
  }

 private:
  void work() {
    if (server_.stopping_) {
      write(AdminApi::refusal(503, "UNAVAILABLE", "the agent is stopping; ask again when it is back"));
      return;
    }
    const auto& request = parser_.get();
    const bool post = request.method() == http::verb::post;
    const bool quick = AdminApi::is_quick(post, request.target());
    if (!quick && server_.long_works_.fetch_add(1) >= most_long_works) {
      --server_.long_works_;
      write(AdminApi::refusal(503, "RESOURCE_EXHAUSTED", "16 other requests are being worked on; ask again when one has ended"));
      return;
    }
    stream_.expires_never();
    // Without the guard the server's thread would find nothing to wait for, and end.
    asio::post(quick ? server_.quick_ : server_.slow_, [self = shared_from_this(), guard = asio::make_work_guard(server_.io_), post,
                                                        quick]() mutable {
      Server& server = self->server_;
      const auto& asked = self->parser_.get();
      AdminAnswer answer = server.api_.answer(asked.method_string(), asked.target(), asked.body(), server.work_stop_.get_token());
      if (post || answer.status >= 500) {
        server.log_->info("admin {} {} status={}", csi::one_line(asked.method_string(), 16), csi::one_line(asked.target(), 256),
                          answer.status);
      }
      if (!quick) {
        --server.long_works_;
      }
      // The session ends on the server's thread, as it began: no reference stays here.
      asio::post(server.io_, [self = std::move(self), answer = std::move(answer)]() mutable { self->write(std::move(answer)); });
    });
  }

  void write(AdminAnswer answer) {
    response_.version(11);
    response_.result(answer.status);
    response_.set(http::field::server, "ordinald/" ORDINALD_VERSION);
    response_.set(http::field::content_type, "application/json");
    response_.body() = std::move(answer.body);
    response_.keep_alive(false);
    response_.prepare_payload();
    stream_.expires_after(client_patience);
    http::async_write(stream_, response_, [self = shared_from_this()](const boost::system::error_code&, std::size_t) {
      boost::system::error_code ignored;
      self->stream_.socket().shutdown(Local::socket::shutdown_send, ignored);
    });
  }

  Server& server_;
  beast::basic_stream<Local> stream_;
  asio::steady_timer patience_;  ///< with the request; the stream's own would leave nothing to answer on
  beast::flat_buffer buffer_;
  AdminRequestParser parser_;
  http::response<http::string_body> response_;
  bool reading_ = true;
  bool late_ = false;
};

void AdminEndpoint::Server::let_go() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (Session* session : sessions_) {
    session->give_up_reading();
  }
}

void AdminEndpoint::Server::accept() {
  if (accepting_ || stopping_ || sessions_.size() >= most_connections) {
    return;
  }
  accepting_ = true;
  acceptor_.async_accept([this](const boost::system::error_code& error, Local::socket socket) {
    accepting_ = false;
    if (stopping_ || error == asio::error::operation_aborted) {
      return;
    }
    if (error) {
      accept_later();  // no descriptor or memory is left: the connection stays queued, and nothing tells when there is room again
      return;
    }
    std::make_shared<Session>(*this, std::move(socket))->read();
    accept();
  });
}

void AdminEndpoint::Server::accept_later() {
  retry_.expires_after(std::chrono::milliseconds{50});
  retry_.async_wait([this](const boost::system::error_code& error) {
    if (!error) {
      accept();
    }
  });
}

void AdminEndpoint::Server::ended(Session* session) {
  sessions_.erase(session);
  accept();
}

AdminEndpoint::AdminEndpoint(std::unique_ptr<Server> server) : server_(std::move(server)) {}
AdminEndpoint::~AdminEndpoint() = default;

void AdminEndpoint::stop() { server_->stop(); }

mount::Result<std::unique_ptr<AdminEndpoint>> AdminEndpoint::start(const std::string& path, AdminApi& api,
                                                                   std::shared_ptr<const mount::Log> log) {
  TRY(const std::string checked, csi::parse_endpoint("unix:" + path));
  TRY(auto listener, csi::Listener::open(checked));
  const int accepting = listener->another_handle();
  if (accepting < 0) {
    return mount::errno_error(errno, "the admin socket " + path);
  }
  return std::unique_ptr<AdminEndpoint>{new AdminEndpoint{std::make_unique<Server>(std::move(listener), accepting, api, std::move(log))}};
}

}  // namespace ordinald::agent
