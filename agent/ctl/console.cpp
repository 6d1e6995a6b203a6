#include "agent/ctl/console.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "agent/ctl/text.hpp"

namespace ordinald::ctl {
namespace {

constexpr std::size_t gap = 2;         // between two columns
constexpr std::size_t least_cell = 8;  // to which a column shrinks at most

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

std::size_t terminal_width(int fd) {
  if (::isatty(fd) == 0) {
    return 0;
  }
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

const char* escape(Tone tone) {
  switch (tone) {
    case Tone::plain:
      return "";
    case Tone::bold:
      return "\033[1m";
    case Tone::good:
      return "\033[32m";
    case Tone::warning:
      return "\033[33m";
    case Tone::bad:
      return "\033[1;31m";
    case Tone::faint:
      return "\033[2m";
  }
  return "";
}

/// Lines of at most `width` columns, broken at blanks; a word that is longer stays whole, so that it can be copied.
std::vector<std::string> wrapped(const std::string& text, std::size_t width) {
  std::vector<std::string> lines;
  std::string line;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!line.empty() && columns(line) + 1 + columns(word) > width) {
      lines.push_back(std::exchange(line, word));
    } else {
      line += (begin == 0 ? "" : " ") + word;
    }
    begin = end + 1;
  }
  lines.push_back(line);
  return lines;
}

}  // namespace

Console::Console(std::FILE* out, ColorMode mode) : out_(out), color_(mode == ColorMode::always), width_(terminal_width(::fileno(out))) {
  if (mode == ColorMode::automatic) {
    color_ = width_ > 0 && variable("NO_COLOR").empty() && variable("TERM") != "dumb";
  }
}

std::string Console::painted(const std::string& text, Tone tone) const {
  return color_ && tone != Tone::plain && !text.empty() ? escape(tone) + text + "\033[0m" : text;
}

void Console::raw(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), out_);
  began_ = true;
}

void Console::line(const std::vector<Words>& pieces) {
  std::string text;
  for (const Words& piece : pieces) {
    text += painted(harmless(piece.text), piece.tone);
  }
  raw(text + "\n");
}

void Console::heading(std::string_view title) {
  if (began_) {
    raw("\n");
  }
  line({Words{title, Tone::bold}});
}

void Console::wrapped_after(const std::string& lead, const Words& text) {
  const std::string safe = harmless(text.text);
  const bool wraps = width_ > lead.size() + 20;
  const std::vector<std::string> lines = wraps ? wrapped(safe, width_ - lead.size()) : std::vector<std::string>{safe};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    raw((i == 0 ? lead : std::string(lead.size(), ' ')) + painted(lines[i], text.tone) + "\n");
  }
}

void Console::field(std::string_view label, Words text, std::size_t label_width) {
  std::string lead = "  " + std::string{label} + ":";
  lead.resize(std::max(lead.size() + 1, label_width + 4), ' ');
  wrapped_after(lead, text);
}

void Console::item(std::string_view text) { wrapped_after("  - ", text); }

void Console::under(std::string_view text, std::size_t blanks) { wrapped_after(std::string(blanks, ' '), text); }

void Console::clear() { raw("\033[H\033[2J"); }

void Console::table(const Table& table) {
  const std::size_t count = table.columns.size();
  std::vector<std::vector<std::string>> cells;
  std::vector<std::size_t> widths;
  for (const Column& column : table.columns) {
    widths.push_back(columns(column.title));
  }
  for (const auto& row : table.rows) {
    auto& safe = cells.emplace_back();
    for (std::size_t i = 0; i < count; ++i) {
      safe.push_back(harmless(row[i].text));
      widths[i] = std::max(widths[i], columns(safe.back()));
    }
  }

  const auto total = [&] {
    std::size_t sum = gap * (count - 1);
    for (const std::size_t width : widths) {
      sum += width;
    }
    return sum;
  };
  while (width_ > 0 && total() > width_) {
    std::size_t widest = count;
    for (std::size_t i = 0; i < count; ++i) {
      if (table.columns[i].shrinks && widths[i] > std::max(least_cell, columns(table.columns[i].title)) &&
          (widest == count || widths[i] > widths[widest])) {
        widest = i;
      }
    }
    if (widest == count) {
      break;
    }
    --widths[widest];
  }

  const auto print = [&](const auto& text_of, const auto& tone_of) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string cell = width_ > 0 ? fitted(text_of(i), widths[i]) : text_of(i);
      const std::string blanks(widths[i] - columns(cell), ' ');
      if (i > 0) {
        text.append(gap, ' ');
      }
      if (table.columns[i].right) {
        text += blanks;
      }
      text += painted(cell, tone_of(i));
      if (!table.columns[i].right && i + 1 < count) {
        text += blanks;
      }
    }
    raw(text + "\n");
  };
  print([&](std::size_t i) { return table.columns[i].title; }, [](std::size_t) { return Tone::bold; });
  for (std::size_t row = 0; row < cells.size(); ++row) {
    print([&](std::size_t i) { return cells[row][i]; }, [&](std::size_t i) { return table.rows[row][i].tone; });
  }
}

}  // namespace ordinald::ctl
