#include "mount/archive.hpp"

#include <catch2/catch.hpp>

#include "mount/types.hpp"
#include "mount/verbs.hpp"

namespace ordinald::mount {
namespace {

enum class Colour : std::uint8_t { red, green };

struct Inner {
  std::string name;
  Colour colour = Colour::red;
  void fields(auto& f) { f(name, colour); }
};

struct Everything {
  std::int64_t number = 0;
  std::uint8_t small = 0;
  bool flag = false;
  std::string text;
  std::vector<Inner> items;
  std::vector<std::string> words;
  std::optional<Inner> maybe;
  std::optional<std::uint32_t> none;
  std::chrono::milliseconds span{0};
  void fields(auto& f) { f(number, small, flag, text, items, words, maybe, none, span); }
};

Everything sample() {
  Everything all;
  all.number = -7;
  all.small = 255;
  all.flag = true;
  all.text = std::string("a\0b\xff", 4);
  all.items = {{"one", Colour::green}, {"", Colour::red}};
  all.words = {"x", "", std::string(70000, 'y')};
  all.maybe = Inner{"two", Colour::green};
  all.span = std::chrono::milliseconds{-1};
  return all;
}

TEST_CASE("archive: a struct comes back as it was", "[archive]") {
  const Everything all = sample();
  const std::string bytes = archive::pack(all);
  archive::Reader reader{bytes};
  Everything back;
  back.none = 5;  // must be emptied
  reader.get(back);
  REQUIRE(reader.done());
  CHECK(back.number == all.number);
  CHECK(back.small == all.small);
  CHECK(back.flag);
  CHECK(back.text == all.text);
  REQUIRE(back.items.size() == 2);
  CHECK(back.items[0].name == "one");
  CHECK(back.items[0].colour == Colour::green);
  CHECK(back.words == all.words);
  REQUIRE(back.maybe.has_value());
  CHECK(back.maybe->name == "two");
  CHECK_FALSE(back.none.has_value());
  CHECK(back.span == all.span);
}

TEST_CASE("archive: cut short at any byte it fails, and nothing worse", "[archive]") {
  Everything all = sample();
  all.words.back().resize(3);
  const std::string bytes = archive::pack(all);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string cut = bytes.substr(0, size);  // a copy of its own, for the sanitizer to see its end
    archive::Reader reader{cut};
    Everything back;
    reader.get(back);
    CHECK_FALSE(reader.ok());
  }
  archive::Reader longer{bytes};
  Everything back;
  longer.get(back);
  CHECK(longer.done());
  const std::string more = bytes + "x";
  archive::Reader too_long{more};
  too_long.get(back);
  CHECK(too_long.ok());
  CHECK_FALSE(too_long.done());
}

TEST_CASE("archive: any byte changed is read without harm", "[archive]") {
  Everything all = sample();
  all.words.back().resize(3);
  const std::string bytes = archive::pack(all);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const char other : {'\0', '\1', '\x7f', '\xff'}) {
      std::string changed = bytes;
      changed[at] = other;
      archive::Reader reader{changed};
      Everything back;
      reader.get(back);  // what it says then is its own business
    }
  }
  SUCCEED();
}

TEST_CASE("archive: a length that lies allocates nothing", "[archive]") {
  const std::string lie = archive::pack(std::uint32_t{0xffffffff}) + "abc";
  std::vector<MountEntry> entries;
  archive::Reader first{lie};
  first.get(entries);
  CHECK_FALSE(first.ok());
  CHECK(entries.capacity() == 0);
  std::string text;
  archive::Reader second{lie};
  second.get(text);
  CHECK_FALSE(second.ok());
}

TEST_CASE("archive: results and errors", "[archive]") {
  const auto there_and_back = [](const auto& result) {
    using T = typename std::decay_t<decltype(result)>::value_type;
    const std::string bytes = archive::pack(result);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const std::string cut = bytes.substr(0, size);
      const auto broken = archive::Reader{cut}.get_result<T>();
      REQUIRE_FALSE(broken.has_value());
      CHECK(broken.error().message.find("can't be read") != std::string::npos);
    }
    return archive::Reader{bytes}.get_result<T>();
  };
  CHECK(there_and_back(Result<void>{success()}).has_value());
  CHECK(there_and_back(Result<std::uint64_t>{7U}).value() == 7);
  CHECK(there_and_back(Result<std::optional<Device>>{std::nullopt}).value() == std::nullopt);
  Device device;
  device.path = "/dev/loop9";
  device.diskseq = 77;
  const auto maybe = there_and_back(Result<std::optional<Device>>{device});
  REQUIRE(maybe.has_value());
  CHECK(maybe.value()->path == "/dev/loop9");
  CHECK(maybe.value()->diskseq == 77);
  const auto failed = there_and_back(Result<std::vector<Pin>>{errno_error(ErrorCode::failed_precondition, 16, "umount")});
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().code == ErrorCode::failed_precondition);
  CHECK(failed.error().sys_errno == 16);
  CHECK(failed.error().message == "umount: Device or resource busy (EBUSY)");
}

TEST_CASE("verbs: each has a number of its own", "[archive]") {
  STATIC_REQUIRE(verb_index<&Kernel::create_image> == 0);
  STATIC_REQUIRE(verb_index<&Kernel::run_tool> == verb_count - 1);
  STATIC_REQUIRE(verb_index<&Kernel::detach> != verb_index<&Kernel::inspect_device>);
  STATIC_REQUIRE(VerbAt<verb_index<&Kernel::bind>>::name == "bind");
}

}  // namespace
}  // namespace ordinald::mount
