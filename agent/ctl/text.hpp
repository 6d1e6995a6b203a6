#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// What people read: names made harmless, sizes, ages. Pure functions; any thread.
namespace ordinald::ctl {

using Time = std::chrono::system_clock::time_point;

/// One line that drives no terminal: control characters, and those that turn the direction of a line, are spelled out (`\n`, `\u001b`);
/// bytes that aren't UTF-8 are replaced. Everything that comes from elsewhere passes through here before it is printed.
std::string harmless(std::string_view text);

/// The columns that a harmless text takes on a terminal: none for a combining character, two for a wide one.
std::size_t columns(std::string_view text);

/// As much of a text as fits into `limit` columns, with `…` where it was cut.
std::string fitted(std::string_view text, std::size_t limit);

/// Bytes as people say them: `512 B`, `64 MiB`, `1.5 GiB`; three digits that mean something.
std::string size_text(std::int64_t bytes);

/// `12 s`, `3 min`, `3 h`, `5 d`: the largest unit that there is at least one of.
std::string duration_text(std::chrono::seconds duration);

/// `2026-01-31T21:03:04Z`, with or without a fraction, as the agent writes times. None for all else, and for
/// years before 1970 or after 2261, which the clock's type can't hold.
std::optional<Time> parse_time(std::string_view text);

/// A time with how long ago it was: `2026-01-31T21:03:04Z (3 h ago)`; the text itself where it is no time.
std::string when_text(std::string_view text, Time now);

/// `3 h ago`, or the text itself where it is no time.
std::string ago_text(std::string_view text, Time now);

}  // namespace ordinald::ctl
