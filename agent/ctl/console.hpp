#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

/// What a person sees on a terminal: lines, colours, tables fitted to its width.
///
/// Nothing that is printed is taken at its word: cells and lines are made harmless (text.hpp) here, once, so that no caller has to think
/// of it. Single-threaded.
namespace ordinald::ctl {

enum class Tone : std::uint8_t { plain, bold, good, warning, bad, faint };
enum class ColorMode : std::uint8_t { automatic, always, never };

/// A piece of a line.
struct Words {
  Words(std::string_view text_, Tone tone_ = Tone::plain) : text(text_), tone(tone_) {}    // NOLINT(google-explicit-constructor)
  Words(const std::string& text_, Tone tone_ = Tone::plain) : text(text_), tone(tone_) {}  // NOLINT(google-explicit-constructor)
  Words(const char* text_, Tone tone_ = Tone::plain) : text(text_), tone(tone_) {}         // NOLINT(google-explicit-constructor)
  std::string text;
  Tone tone = Tone::plain;
};

struct Column {
  std::string title;
  bool right = false;    ///< numbers
  bool shrinks = false;  ///< may be cut with `…` where the terminal is too narrow; others are never cut
};

struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<Words>> rows;  ///< as many cells as there are columns
};

class Console {
 public:
  /// Colours as `mode` says; automatic: only on a terminal that isn't dumb, and not with NO_COLOR (no-color.org) in the environment.
  Console(std::FILE* out, ColorMode mode);

  /// For tests: `width` 0 is no terminal, where nothing is cut.
  Console(std::FILE* out, bool color, std::size_t width) : out_(out), color_(color), width_(width) {}

  /// A line of pieces, written side by side.
  void line(const std::vector<Words>& pieces);
  void line(Words words) { line(std::vector<Words>{std::move(words)}); }
  void line() { line(std::vector<Words>{}); }
  /// `Title`, in bold, with an empty line before it unless it is the first thing printed.
  void heading(std::string_view title);
  /// `  label:    text`, with labels padded to `label_width` and a long text wrapped beneath itself on a terminal.
  void field(std::string_view label, Words text, std::size_t label_width = 12);
  /// `  - text`, wrapped as a field is.
  void item(std::string_view text);
  /// A text beneath something, so many blanks in, wrapped likewise.
  void under(std::string_view text, std::size_t blanks);
  /// Titles, then rows, two blanks between columns. Columns that may shrink do so, widest first, until the width suffices.
  void table(const Table& table);
  /// Of a terminal: an empty screen, written from its top.
  void clear();
  void flush() { std::fflush(out_); }
  /// What is printed as it is, such as JSON that we wrote.
  void raw(std::string_view text);

  [[nodiscard]] bool is_terminal() const { return width_ > 0; }
  [[nodiscard]] std::size_t width() const { return width_; }

 private:
  void wrapped_after(const std::string& lead, const Words& text);
  std::string painted(const std::string& text, Tone tone) const;

  std::FILE* out_;
  bool color_;
  std::size_t width_;  ///< columns; 0: no terminal
  bool began_ = false;
};

}  // namespace ordinald::ctl
