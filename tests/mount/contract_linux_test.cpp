#include <catch2/catch.hpp>

#include "mount/command.hpp"
#include "mount/linux_kernel.hpp"
#include "tests/mount/real_contract_node.hpp"

namespace ordinald::testing {
namespace {

mount::Result<mount::ToolOutcome> run_tool(const mount::ToolRequest& request) {
  static const mount::Result<mount::ToolNamespace> tools = mount::ToolNamespace::make();
  if (!tools) {
    return tools.error();
  }
  return mount::run_command(request, tools.value(), [](pid_t, std::uint64_t, std::string_view) { return mount::success(); });
}

class LinuxContractNode final : public RealContractNode {
 public:
  mount::Kernel& kernel() override { return kernel_; }

 private:
  mount::LinuxKernel kernel_{run_tool};
};

}  // namespace

#define ORDINALD_CASE(name)                                      \
  TEST_CASE("linux kernel: " #name, "[contract][linux][root]") { \
    LinuxContractNode node;                                      \
    contract::name(node);                                        \
  }
ORDINALD_KERNEL_CONTRACT(ORDINALD_CASE)
#undef ORDINALD_CASE

}  // namespace ordinald::testing
