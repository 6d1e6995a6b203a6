#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "mount/result.hpp"

/// How the plain structs of the seam pass between two processes of one binary: integers as they lie in memory, a string or vector after
/// its length, a struct as what its `fields(f)` lists. No version and no schema: both ends are forked from the same program.
///
/// Threading: value types. Errors: a Reader never reads beyond its bytes and never throws; what is cut short or makes no sense fails it.
namespace ordinald::mount::archive {

template <class T>
concept Scalar = std::is_integral_v<T> || std::is_enum_v<T>;

/// Appends values to a string.
class Writer {
 public:
  template <Scalar T>
  void put(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
  }
  void put(const std::string& text) {
    put(static_cast<std::uint32_t>(text.size()));
    bytes_ += text;
  }
  void put(std::chrono::milliseconds span) { put(static_cast<std::int64_t>(span.count())); }
  template <class T>
  void put(const std::vector<T>& items) {
    put(static_cast<std::uint32_t>(items.size()));
    for (const T& item : items) put(item);
  }
  template <class T>
  void put(const std::optional<T>& maybe) {
    put(maybe.has_value());
    if (maybe) put(*maybe);
  }
  void put(const Error& error) {
    put(error.code);
    put(error.message);
    put(error.sys_errno);
  }
  template <class T>
  void put(const Result<T>& result) {
    put(result.has_value());
    if (!result.has_value()) {
      put(result.error());
    } else if constexpr (!std::is_void_v<T>) {
      put(result.assume_value());
    }
  }
  template <class T>
    requires requires(T& object, Writer& writer) { object.fields(writer); }
  void put(const T& object) {
    const_cast<T&>(object).fields(*this);  // `fields` serves both directions and so can't be const; a Writer changes nothing
  }

  /// What a struct's `fields` calls.
  template <class... T>
  void operator()(const T&... members) {
    (put(members), ...);
  }

  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// The values, one after the other.
template <class... T>
std::string pack(const T&... values) {
  Writer writer;
  writer(values...);
  return writer.take();
}

/// Takes values back out, in the same order. After a failure every further value stays as it was.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <Scalar T>
  void get(T& value) {
    if (!has(sizeof(T))) return;
    if constexpr (std::is_same_v<T, bool>) {
      const char raw = rest_.front();
      if (raw != 0 && raw != 1) return fail();
      value = raw == 1;
    } else {
      char raw[sizeof(T)];
      rest_.copy(raw, sizeof(T));
      std::memcpy(&value, raw, sizeof(T));
    }
    rest_.remove_prefix(sizeof(T));
  }
  void get(std::string& text) {
    const std::uint32_t size = get_size();
    if (!has(size)) return;
    text.assign(rest_.substr(0, size));
    rest_.remove_prefix(size);
  }
  void get(std::chrono::milliseconds& span) {
    std::int64_t count = span.count();
    get(count);
    span = std::chrono::milliseconds{count};
  }
  template <class T>
  void get(std::vector<T>& items) {
    const std::uint32_t size = get_size();
    if (!has(size)) return;  // every element takes a byte at least: a length that lies can't make us allocate more than the message
    items.clear();
    for (std::uint32_t i = 0; i < size && !failed_; ++i) get(items.emplace_back());
  }
  template <class T>
  void get(std::optional<T>& maybe) {
    bool has_value = false;
    get(has_value);
    maybe.reset();
    if (has_value) get(maybe.emplace());
  }
  void get(Error& error) {
    get(error.code);
    get(error.message);
    get(error.sys_errno);
  }
  template <class T>
    requires requires(T& object, Reader& reader) { object.fields(reader); }
  void get(T& object) {
    object.fields(*this);
  }
  /// A Result can't be made empty, so it is returned; an unreadable one is an internal error saying so.
  template <class T>
  Result<T> get_result() {
    bool has_value = false;
    get(has_value);
    if (failed_) return unreadable();
    if (!has_value) {
      Error error;
      get(error);
      return done() ? error : unreadable();
    }
    if constexpr (std::is_void_v<T>) {
      if (!done()) return unreadable();
      return success();
    } else {
      T value{};
      get(value);
      if (!done()) return unreadable();
      return value;
    }
  }

  template <class... T>
  void operator()(T&... members) {
    (get(members), ...);
  }

  [[nodiscard]] bool ok() const { return !failed_; }
  /// Nothing failed, and nothing is left over.
  [[nodiscard]] bool done() const { return !failed_ && rest_.empty(); }

 private:
  void fail() { failed_ = true; }
  bool has(std::size_t size) {
    if (rest_.size() < size) fail();
    return !failed_;
  }
  std::uint32_t get_size() {
    std::uint32_t size = 0;
    get(size);
    return size;
  }
  static Error unreadable() { return make_error(ErrorCode::internal, "bug: an answer between the agent's processes can't be read"); }

  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace ordinald::mount::archive
