#include "mount/worker.hpp"

#include <array>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

#include "mount/archive.hpp"
#include "mount/channel.hpp"
#include "mount/command.hpp"
#include "mount/linux_kernel.hpp"
#include "mount/verbs.hpp"
#include "mount/worker_mark.hpp"

namespace ordinald::mount {
namespace {

struct Reply {
  std::string bytes;
  UniqueFd fd{};  ///< goes along; closed here once it is sent
};
using Handler = Reply (*)(Kernel&, archive::Reader&);

Reply refuse(const Error& error) { return {.bytes = archive::pack(Result<void>{error})}; }

template <class T>
Reply reply_of(Result<T> result) {
  Reply reply{.bytes = archive::pack(result)};
  if constexpr (std::is_same_v<T, PoolDirectory>) {
    if (result) reply.fd = std::move(result.value().fd);
  }
  return reply;
}

Error bug(std::string_view verb, std::string_view what) {
  return make_error(ErrorCode::internal, "bug: " + std::string{verb} + ": " + std::string{what});
}

template <class V>
Reply handle(Kernel& kernel, archive::Reader& request) {
  using Signature = VerbSignature<V>;
  typename Signature::Arguments arguments;  // NOLINT(misc-const-correctness): of a verb without any
  std::apply([&](auto&... members) { request(members...); }, arguments);
  if (!request.done()) return refuse(bug(V::name, "its arguments can't be read"));
  try {
    return reply_of(std::apply([&](const auto&... members) { return (kernel.*V::function)(members...); }, arguments));
  } catch (const std::exception& exception) {
    return refuse(bug(V::name, exception.what()));
  } catch (...) {
    return refuse(bug(V::name, "an exception of no known kind"));
  }
}

template <std::size_t... I>
constexpr std::array<Handler, verb_count> handlers_of(std::index_sequence<I...>) {
  return {&handle<VerbAt<I>>...};
}
constexpr auto handlers = handlers_of(std::make_index_sequence<verb_count>{});

}  // namespace

std::unique_ptr<Kernel> make_linux_kernel(ToolRunner run_tool) { return std::make_unique<LinuxKernel>(std::move(run_tool)); }

void serve_verbs(UniqueFd socket, const std::string& run_dir, MakeKernel make_kernel, const Result<ToolNamespace>& tools) {
  Channel channel{std::move(socket)};
  auto mark = WorkerMark::open(run_dir);
  const auto note_tool = [&](pid_t pid, std::uint64_t start_time, std::string_view program) {
    return mark.value().set_tool(pid, start_time, program);
  };
  const auto kernel = make_kernel([&](const ToolRequest& request) -> Result<ToolOutcome> {
    if (!tools) return tools.error();
    auto outcome = run_command(request, tools.value(), note_tool);
    TRYV(mark.value().clear_tool());
    return outcome;
  });

  std::string message;
  while (channel.receive(message, std::nullopt) == Channel::Status::done) {
    archive::Reader request{message};
    std::uint8_t verb = 0;
    std::string volume;
    request(verb, volume);
    if (!mark)
      mark = WorkerMark::open(run_dir);  // there was no room for it; a worker that would refuse for ever would be used again and again
    Reply reply;
    if (!request.ok() || verb >= handlers.size()) {
      reply = refuse(bug("a worker", "a request can't be read"));
    } else if (!mark) {
      reply = refuse(mark.error());
    } else if (const auto noted = mark.value().set_volume(volume); !noted) {
      reply = refuse(noted.error());
    } else {
      reply = handlers[verb](*kernel, request);
    }
    if (channel.send(reply.bytes, std::nullopt, -1, reply.fd.get()) != Channel::Status::done) break;
  }
  if (mark) mark.value().remove();
}

}  // namespace ordinald::mount
