#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/try.hpp>

#include "mount/error.hpp"

namespace ordinald::mount {

/// A bug: what a Result hasn't got was asked for. Throws std::logic_error with the error that it has instead. Defined once, in error.cpp:
/// Boost's own policies put their exceptions into each file that has a Result.
[[noreturn]] void throw_no_value(const Error& error);
[[noreturn]] void throw_no_value();
[[noreturn]] void throw_no_error();

/// What a Result does when it is asked for what it hasn't got (Boost.Outcome, "no-value policies").
struct ThrowBug : boost::outcome_v2::policy::base {
  template <class R>
  static constexpr void wide_value_check(R&& result) {
    if (!base::_has_value(result)) [[unlikely]] {
      if constexpr (requires { throw_no_value(base::_error(result)); }) {
        throw_no_value(base::_error(result));
      } else {
        throw_no_value();
      }
    }
  }
  template <class R>
  static constexpr void wide_error_check(R&& result) {
    if (!base::_has_error(result)) [[unlikely]] {
      throw_no_error();
    }
  }
};

/// A value or an Error. Discarding one warns; `.value()` on an error throws (a bug), so test it or TRY it.
template <class T, class E = Error>
using Result = boost::outcome_v2::basic_result<T, E, ThrowBug>;

/// The value of a Result<void> that went well.
inline auto success() { return boost::outcome_v2::success(); }

}  // namespace ordinald::mount

/// `TRY(auto x, expr)` takes the value or returns the error; `TRYV(expr)` for Result<void>.
#define TRY BOOST_OUTCOME_TRY
#define TRYV BOOST_OUTCOME_TRYV
