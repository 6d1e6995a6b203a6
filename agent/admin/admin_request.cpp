#include "agent/admin/admin_request.hpp"

#include <boost/beast/http/error.hpp>

namespace ordinald::agent {

namespace http = boost::beast::http;

void set_bounds(AdminRequestParser& parser) {
  constexpr std::uint32_t longest_header = 16 << 10;
  constexpr std::uint64_t longest_body = 64 << 10;
  parser.header_limit(longest_header);
  parser.body_limit(longest_body);
}

std::optional<AdminAnswer> refuse_request(const boost::system::error_code& error) {
  if (error == http::error::body_limit) {
    return AdminApi::refusal(413, "INVALID_ARGUMENT", "the body has more than 64 KiB");
  }
  if (error == http::error::header_limit) {
    return AdminApi::refusal(431, "INVALID_ARGUMENT", "the header has more than 16 KiB");
  }
  const bool no_http = error.category() == boost::system::error_code(http::error::bad_method).category();
  if (no_http && error != http::error::end_of_stream && error != http::error::partial_message) {
    return AdminApi::refusal(400, "INVALID_ARGUMENT", "this is no HTTP/1.1 request: " + error.message());
  }
  return std::nullopt;
}

}  // namespace ordinald::agent
