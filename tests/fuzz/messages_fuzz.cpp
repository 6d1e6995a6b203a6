/// Any bytes as a message between the daemon and a worker, and as a worker's mark: read or refused, never beyond their end, and what is
/// read packs and reads again to the same.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "mount/archive.hpp"
#include "mount/verbs.hpp"
#include "mount/worker_mark.hpp"

namespace {

using namespace ordinald::mount;

template <class V>
void check_request(std::string_view bytes) {
  typename VerbSignature<V>::Arguments arguments;
  archive::Reader reader{bytes};
  std::apply([&](auto&... members) { reader(members...); }, arguments);
  if (!reader.done()) return;
  const std::string packed = std::apply([](const auto&... members) { return archive::pack(members...); }, arguments);
  if (packed != bytes) std::abort();
}

template <class V>
void check_answer(std::string_view bytes) {
  archive::Reader reader{bytes};
  (void)reader.get_result<typename VerbSignature<V>::Value>();
}

using Check = void (*)(std::string_view);
template <std::size_t... I>
constexpr std::array<Check, sizeof...(I) * 2> checks_of(std::index_sequence<I...>) {
  return {&check_request<VerbAt<I>>..., &check_answer<VerbAt<I>>...};
}
constexpr auto checks = checks_of(std::make_index_sequence<verb_count>{});

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto mark = parse_mark(text); mark && mark->tool_pid < 0) std::abort();
  if (size > 0) checks[data[0] % checks.size()](text.substr(1));
  return 0;
}
