#include <catch2/catch.hpp>
#include <stdexcept>

#include "mount/worker_pool.hpp"
#include "tests/mount/real_contract_node.hpp"

namespace ordinald::testing {
namespace {

mount::Zygote start_zygote(const std::string& run_dir) {
  auto zygote = mount::Zygote::start(run_dir);
  if (!zygote) {
    throw std::runtime_error{zygote.error().message};
  }
  return std::move(zygote).value();
}

/// The workers share this process's mount namespace: the zygote is forked from here.
class RemoteContractNode final : public RealContractNode {
 public:
  RemoteContractNode() : workers_(start_zygote(path("run")), {}, {}), kernel_(workers_.for_volume("contract").value()) {}

  mount::Kernel& kernel() override { return *kernel_; }

 private:
  mount::WorkerPool workers_;
  std::unique_ptr<mount::Kernel> kernel_;
};

}  // namespace

#define ORDINALD_CASE(name)                                        \
  TEST_CASE("remote kernel: " #name, "[contract][remote][root]") { \
    RemoteContractNode node;                                       \
    contract::name(node);                                          \
  }
ORDINALD_KERNEL_CONTRACT(ORDINALD_CASE)
#undef ORDINALD_CASE

}  // namespace ordinald::testing
