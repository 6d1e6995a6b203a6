#include "mount/error.hpp"

#include <catch2/catch.hpp>
#include <cerrno>

namespace ordinald::mount {

TEST_CASE("an errno's error says what was tried and the errno's name", "[error]") {
  const Error error = errno_error(EIO, "reading /dev/loop3");
  CHECK(error.code == ErrorCode::internal);
  CHECK(error.sys_errno == EIO);
  CHECK(error.message == "reading /dev/loop3: Input/output error (EIO)");
}

TEST_CASE("an errno that says 'no room' is resource_exhausted", "[error]") {
  for (const int sys_errno : {ENOSPC, EDQUOT, EMFILE, ENFILE}) {
    CHECK(errno_error(sys_errno, "x").code == ErrorCode::resource_exhausted);
  }
}

TEST_CASE("a given code wins over the errno's", "[error]") {
  const Error error = errno_error(ErrorCode::failed_precondition, ENOSPC, "x");
  CHECK(error.code == ErrorCode::failed_precondition);
  CHECK(error.sys_errno == ENOSPC);
}

TEST_CASE("an errno that Linux does not know still makes a message", "[error]") {
  CHECK(errno_error(9999, "x").message == "x: unknown error");
}

TEST_CASE("context goes before the message and changes nothing else", "[error]") {
  const Error error = errno_error(ErrorCode::not_found, ENOENT, "opening f").with_context("volume v");
  CHECK(error.message == "volume v: opening f: No such file or directory (ENOENT)");
  CHECK(error.code == ErrorCode::not_found);
  CHECK(error.sys_errno == ENOENT);
}

TEST_CASE("an error without an errno has none", "[error]") {
  const Error error = make_error(ErrorCode::aborted, "running since 12:00");
  CHECK(error.sys_errno == 0);
  CHECK(error.message == "running since 12:00");
}

TEST_CASE("codes have the names that logs show", "[error]") {
  CHECK(to_string(ErrorCode::failed_precondition) == "failed_precondition");
  CHECK(to_string(ErrorCode::unavailable) == "unavailable");
  CHECK(to_string(ErrorCode::invalid_argument) == "invalid_argument");
}

}  // namespace ordinald::mount
