#pragma once

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/system/error_code.hpp>
#include <optional>

#include "agent/admin/admin_api.hpp"

/// A request of the admin interface as bytes: HTTP/1.1, of 16 KiB of header and 64 KiB of body at most. Pure; any thread.
namespace ordinald::agent {

using AdminRequestParser = boost::beast::http::request_parser<boost::beast::http::string_body>;

/// Bounds what the parser takes.
void set_bounds(AdminRequestParser& parser);

/// What is answered where reading ended with this error; nothing: the client has gone, in the midst of its request or before it.
std::optional<AdminAnswer> refuse_request(const boost::system::error_code& error);

}  // namespace ordinald::agent
