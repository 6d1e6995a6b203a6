// What people read: harmless names, sizes, ages, tables.
#include "agent/ctl/text.hpp"

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "agent/ctl/admin_client.hpp"
#include "agent/ctl/console.hpp"

namespace ordinald::ctl {
namespace {

/// What is printed, in memory.
class Printed {
 public:
  Printed() : file_(::open_memstream(&text_, &size_)) {}
  Printed(const Printed&) = delete;
  Printed& operator=(const Printed&) = delete;
  ~Printed() {
    std::fclose(file_);
    std::free(text_);
  }
  std::FILE* file() const { return file_; }
  std::string text() const {
    std::fflush(file_);
    return {text_, size_};
  }

 private:
  char* text_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* file_;
};

}  // namespace

TEST_CASE("ctl text: nothing that comes from elsewhere drives a terminal") {
  CHECK(harmless("plain ä 漢") == "plain ä 漢");
  CHECK(harmless("\033[2J\033]0;title\a") == "\\u001b[2J\\u001b]0;title\\u0007");
  CHECK(harmless("two\nlines\r\t\b") == "two\\nlines\\r\\t\\u0008");
  CHECK(harmless("\xc2\x9b"
                 "31m") == "\\u009b31m");  // C1: a CSI of one character
  CHECK(harmless("\u202egpj.exe") == "\\u202egpj.exe");
  CHECK(harmless("\xff\xfe") == "\ufffd\ufffd");
  CHECK(harmless(std::string{"a\0b", 3}) == "a\\u0000b");
}

TEST_CASE("ctl text: columns are those of a terminal") {
  CHECK(columns("") == 0);
  CHECK(columns("db-0") == 4);
  CHECK(columns("ä…") == 2);
  CHECK(columns("漢字") == 4);
  CHECK(columns("e\u0301") == 1);
  CHECK(fitted("data-db-0", 9) == "data-db-0");
  CHECK(fitted("data-db-0", 8) == "data-db…");
  CHECK(fitted("漢字漢字", 4) == "漢…");
  CHECK(fitted("abc", 1) == "…");
  CHECK(fitted("abc", 0).empty());
}

TEST_CASE("ctl text: sizes") {
  CHECK(size_text(0) == "0 B");
  CHECK(size_text(1023) == "1023 B");
  CHECK(size_text(1024) == "1 KiB");
  CHECK(size_text(64LL << 20) == "64 MiB");
  CHECK(size_text(3LL << 29) == "1.5 GiB");
  CHECK(size_text((1LL << 30) + (1LL << 20)) == "1 GiB");
  CHECK(size_text(1LL << 40) == "1 TiB");
  CHECK(size_text((1LL << 40) - 1) == "1 TiB");
  CHECK(size_text(250LL * 1000 * 1000 * 1000) == "232.8 GiB");
  CHECK(size_text(INT64_MAX) == "8 EiB");
  CHECK(size_text(-5) == "-5 B");
}

TEST_CASE("ctl text: times and ages") {
  const Time now = *parse_time("2026-01-31T12:00:00Z");
  CHECK(ago_text("2026-01-31T11:59:18Z", now) == "42 s ago");
  CHECK(ago_text("2026-01-31T11:00:01Z", now) == "59 min ago");
  CHECK(ago_text("2026-01-31T09:00:00.123Z", now) == "3 h ago");
  CHECK(ago_text("2026-01-01T00:00:00Z", now) == "30 d ago");
  CHECK(ago_text("2027-01-01T00:00:00Z", now) == "in the future: is the clock right?");
  CHECK(when_text("2026-01-31T09:00:00Z", now) == "2026-01-31T09:00:00Z (3 h ago)");
  CHECK(when_text("\033yesterday", now) == "\\u001byesterday");
  CHECK(when_text("", now).empty());
  CHECK_FALSE(parse_time("2026-01-31T09:00:00"));
  CHECK_FALSE(parse_time("2026-01-31T09:00:00Zx"));
  CHECK(parse_time("2261-12-31T23:59:59Z"));
  for (const char* beyond : {"2263-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "1013-01-01T00:00:00Z"}) {
    CHECK(when_text(beyond, now) == beyond);
  }
  CHECK_FALSE(parse_time("2026-01-31T09:00:00.12\033Z"));
  CHECK(duration_text(std::chrono::seconds{-3}) == "0 s");
}

TEST_CASE("ctl console: a table is fitted to the terminal by the columns that may shrink, the widest first") {
  const Table table{
      .columns = {{.title = "ID"}, {.title = "SIZE", .right = true}, {.title = "WHERE", .shrinks = true}},
      .rows = {{"data-db-0-0a1b2c3d", "64 MiB", "/var/lib/kubelet/pods/0b8f/volumes/mount"}, {"x", "1.5 GiB", {"/m", Tone::bad}}}};
  Printed wide;
  Console{wide.file(), false, 200}.table(table);
  CHECK(wide.text() ==
        "ID                     SIZE  WHERE\n"
        "data-db-0-0a1b2c3d   64 MiB  /var/lib/kubelet/pods/0b8f/volumes/mount\n"
        "x                   1.5 GiB  /m\n");
  Printed narrow;
  Console{narrow.file(), false, 50}.table(table);
  CHECK(narrow.text() ==
        "ID                     SIZE  WHERE\n"
        "data-db-0-0a1b2c3d   64 MiB  /var/lib/kubelet/pod…\n"
        "x                   1.5 GiB  /m\n");
  Printed too_narrow;  // a column that can't shrink stays whole: half an id is no use
  Console{too_narrow.file(), true, 20}.table(table);
  CHECK(too_narrow.text().find("data-db-0-0a1b2c3d") != std::string::npos);
  CHECK(too_narrow.text().find("/var/li…") != std::string::npos);
  CHECK(too_narrow.text().find("\033[1;31m/m\033[0m") != std::string::npos);
  Printed none;  // no terminal: nothing is cut
  Console{none.file(), false, 0}.table(table);
  CHECK(none.text() == wide.text());
}

TEST_CASE("ctl console: text from elsewhere is harmless wherever it is printed") {
  const std::string evil = "\033]52;c;cm0gLXJm\a\n";
  Printed printed;
  Console console{printed.file(), false, 80};
  console.line({"a ", Words{evil, Tone::bad}});
  console.line(evil);
  console.heading(evil);
  console.field("label", evil);
  console.item(evil);
  console.under(evil, 4);
  console.table({.columns = {{.title = "T", .shrinks = true}}, .rows = {{evil}}});
  CHECK(printed.text().find('\033') == std::string::npos);
  CHECK(printed.text().find('\a') == std::string::npos);
  CHECK(std::ranges::count(printed.text(), '\n') == 9);
}

TEST_CASE("ctl console: a long field is wrapped beneath itself, and a word is never cut") {
  Printed printed;
  Console{printed.file(), false, 40}.field("held by", "prod/db-1 at /var/lib/kubelet/pods/0b8f5a/volumes/mount since long ago", 8);
  CHECK(printed.text() ==
        "  held by:  prod/db-1 at\n"
        "            /var/lib/kubelet/pods/0b8f5a/volumes/mount\n"
        "            since long ago\n");
}

TEST_CASE("ctl: a path's segment is percent-encoded") {
  CHECK(percent_encoded("data-db-0_1.x~") == "data-db-0_1.x~");
  CHECK(percent_encoded("prod/data db?#%") == "prod%2Fdata%20db%3F%23%25");
  CHECK(percent_encoded("ä\r\n") == "%C3%A4%0D%0A");
}

}  // namespace ordinald::ctl
