#include "csi/status.hpp"

#include <catch2/catch.hpp>
#include <string>

using namespace ordinald;
using grpc::StatusCode;
using mount::ErrorCode;

TEST_CASE("each kind of error has its status code", "[csi][status]") {
  const std::pair<ErrorCode, StatusCode> table[] = {
      {ErrorCode::invalid_argument, StatusCode::INVALID_ARGUMENT},
      {ErrorCode::not_found, StatusCode::NOT_FOUND},
      {ErrorCode::already_exists, StatusCode::ALREADY_EXISTS},
      {ErrorCode::failed_precondition, StatusCode::FAILED_PRECONDITION},
      {ErrorCode::aborted, StatusCode::ABORTED},
      {ErrorCode::resource_exhausted, StatusCode::RESOURCE_EXHAUSTED},
      {ErrorCode::out_of_range, StatusCode::OUT_OF_RANGE},
      {ErrorCode::unimplemented, StatusCode::UNIMPLEMENTED},
      {ErrorCode::internal, StatusCode::INTERNAL},
      {ErrorCode::unavailable, StatusCode::UNAVAILABLE},
  };
  for (const auto& [error, status] : table) {
    CHECK(csi::to_status_code(error) == status);
    const auto made = csi::to_status(mount::make_error(error, "why"));
    CHECK(made.error_code() == status);
    CHECK(made.error_message() == "why");
    CHECK(made.error_details().empty());
  }
}

TEST_CASE("a status never has an empty message", "[csi][status]") {
  CHECK_FALSE(csi::to_status(mount::make_error(ErrorCode::internal, "")).error_message().empty());
}

TEST_CASE("a long message is cut between characters, so that it passes as metadata", "[csi][status]") {
  std::string text = "x";
  while (text.size() < 16384) {
    text += "ü";
  }
  const auto message = csi::to_status(mount::make_error(ErrorCode::internal, text)).error_message();
  CHECK(message.size() < 2000);
  CHECK(message.substr(message.find(" ...") - 2, 2) == "ü");

  const std::string plain(4096, 'p');
  CHECK(csi::to_status(mount::make_error(ErrorCode::internal, plain)).error_message() == plain);
}
