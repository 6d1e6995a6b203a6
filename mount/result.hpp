#pragma once

#include <boost/outcome/result.hpp>
#include <boost/outcome/try.hpp>

#include "mount/error.hpp"

namespace ordinald::mount {

/// A value or an Error. Discarding one warns; `.value()` on an error throws (a bug), so test it or TRY it.
template <class T>
using Result = boost::outcome_v2::result<T, Error, boost::outcome_v2::policy::throw_bad_result_access<Error, void>>;

/// The value of a Result<void> that went well.
inline auto success() { return boost::outcome_v2::success(); }

}  // namespace ordinald::mount

/// `TRY(auto x, expr)` takes the value or returns the error; `TRYV(expr)` for Result<void>.
#define TRY BOOST_OUTCOME_TRY
#define TRYV BOOST_OUTCOME_TRYV
