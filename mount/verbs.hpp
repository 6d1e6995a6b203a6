#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "mount/archive.hpp"
#include "mount/kernel.hpp"

/// The list of the kernel's verbs, the only one: the daemon's end finds a verb's number in it, the worker's end the verb to call. What a
/// message holds follows from the member function's type. A new verb is a line here.
namespace ordinald::mount {

template <std::size_t N>
struct VerbName {
  char text[N];
  constexpr VerbName(const char (&from)[N]) { std::copy_n(from, N, text); }  // NOLINT: implicit, from a literal
};

template <VerbName Name, auto Function>
struct Verb {
  static constexpr std::string_view name{Name.text, sizeof(Name.text) - 1};
  static constexpr auto function = Function;
};

using Verbs = std::tuple<                                         //
    Verb<"create_image", &Kernel::create_image>,                  //
    Verb<"inspect_image", &Kernel::inspect_image>,                //
    Verb<"resize_image", &Kernel::resize_image>,                  //
    Verb<"relabel_image", &Kernel::relabel_image>,                //
    Verb<"adopt_image", &Kernel::adopt_image>,                    //
    Verb<"remove_image", &Kernel::remove_image>,                  //
    Verb<"open_pool", &Kernel::open_pool>,                        //
    Verb<"mark_pool", &Kernel::mark_pool>,                        //
    Verb<"inspect_pool", &Kernel::inspect_pool>,                  //
    Verb<"attach", &Kernel::attach>,                              //
    Verb<"find_attached", &Kernel::find_attached>,                //
    Verb<"loops", &Kernel::loops>,                                //
    Verb<"detach", &Kernel::detach>,                              //
    Verb<"inspect_device", &Kernel::inspect_device>,              //
    Verb<"set_device_read_only", &Kernel::set_device_read_only>,  //
    Verb<"refuse_discard", &Kernel::refuse_discard>,              //
    Verb<"refresh_device_size", &Kernel::refresh_device_size>,    //
    Verb<"probe", &Kernel::probe>,                                //
    Verb<"erase", &Kernel::erase>,                                //
    Verb<"survey", &Kernel::survey>,                              //
    Verb<"mount_filesystem", &Kernel::mount_filesystem>,          //
    Verb<"bind", &Kernel::bind>,                                  //
    Verb<"unmount", &Kernel::unmount>,                            //
    Verb<"inspect_path", &Kernel::inspect_path>,                  //
    Verb<"mount_table", &Kernel::mount_table>,                    //
    Verb<"staging_places", &Kernel::staging_places>,              //
    Verb<"usage", &Kernel::usage>,                                //
    Verb<"grow_filesystem", &Kernel::grow_filesystem>,            //
    Verb<"apply_group", &Kernel::apply_group>,                    //
    Verb<"pins", &Kernel::pins>,                                  //
    Verb<"cgroup_users", &Kernel::cgroup_users>,                  //
    Verb<"run_tool", &Kernel::run_tool>>;

inline constexpr std::size_t verb_count = std::tuple_size_v<Verbs>;

namespace detail {

/// Two verbs are compared as types: of pointers to virtual functions the language doesn't say which are equal.
template <auto Function>
struct Tag {};

template <auto Function, std::size_t I = 0>
consteval std::size_t verb_index() {
  static_assert(I < verb_count, "this verb is not in the list");
  if constexpr (std::is_same_v<Tag<Function>, Tag<std::tuple_element_t<I, Verbs>::function>>) {
    return I;
  } else {
    return verb_index<Function, I + 1>();
  }
}

template <class Function>
struct Signature;
template <class R, class... Args>
struct Signature<Result<R> (Kernel::*)(Args...)> {
  using Value = R;
  using Arguments = std::tuple<std::decay_t<Args>...>;
};

}  // namespace detail

/// The number under which a verb travels.
template <auto Function>
inline constexpr auto verb_index = static_cast<std::uint8_t>(detail::verb_index<Function>());

template <std::size_t I>
using VerbAt = std::tuple_element_t<I, Verbs>;

template <class V>
using VerbSignature = detail::Signature<std::remove_const_t<decltype(V::function)>>;

}  // namespace ordinald::mount
