#include "mount/proc_text.hpp"

#include <catch2/catch.hpp>

#include "mount/taken_note.hpp"

using namespace ordinald::mount;

TEST_CASE("a start time is found whatever the program is called") {
  const std::string rest = " S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5338270 1";
  CHECK(start_time_in("4711 (postgres)" + rest) == 5338270);
  CHECK(start_time_in("4711 (a) S 1 2 (b ))" + rest) == 5338270);
  CHECK_FALSE(start_time_in("4711 (postgres) S 1"));
  CHECK_FALSE(start_time_in(""));
}

TEST_CASE("the holder of a pool's lock is the process that has it, not one that waits") {
  const std::string locks =
      "1: FLOCK  ADVISORY  WRITE 0 fd:01:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 fd:01:112 0 EOF\n"
      "2: -> FLOCK  ADVISORY  WRITE 4712 fd:01:112 0 EOF\n3: POSIX  ADVISORY  WRITE 9 fd:01:112 0 EOF";
  CHECK(flock_holder_in(locks, 112) == "4711");
  CHECK_FALSE(flock_holder_in(locks, 12));
  CHECK_FALSE(flock_holder_in("1: FLOCK ADVISORY WRITE ../1 fd:01:112 0 EOF", 112));
}

TEST_CASE("processes of other pid namespaces are counted, not listed") {
  std::vector<std::int64_t> pids;
  std::uint64_t unseen = 0;
  add_processes_in("12\n0\n4711\n", pids, unseen);
  CHECK(pids == std::vector<std::int64_t>{12, 4711});
  CHECK(unseen == 1);
}

TEST_CASE("what a chown took is put back only as it was noted") {
  const Taken taken{.mode = 06755, .changed = "1700000000.5", .capability = std::string("\1\0 \2", 4)};
  CHECK(parse_taken(to_text(taken)) == taken);
  for (const char* half :
       {"", "6755", "6755 1700000000.5", "6755  ", "06755 1.5 ", " 6755 1.5 ", "+6755 1.5 ", "16755 1.5 ", "6785 1.5 "}) {
    CHECK_FALSE(parse_taken(half));
  }
  CHECK_FALSE(parse_taken(std::string_view("6755 1.5\0cap", 12)));
}
