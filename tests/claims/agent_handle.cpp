#include "tests/claims/agent_handle.hpp"

#include "tests/support/agent_process.hpp"

namespace ordinald::testing {

struct AgentHandle::Process {
  AgentProcess agent;
};

AgentHandle::AgentHandle(const std::filesystem::path& root, const nlohmann::json& settings)
    : process_(new Process{AgentProcess{ORDINALD_PROGRAM, root, settings}}) {
  start();
}
AgentHandle::~AgentHandle() = default;

void AgentHandle::start() { process_->agent.start(); }
void AgentHandle::kill() { process_->agent.kill(); }
std::string AgentHandle::endpoint() const { return process_->agent.endpoint(); }
std::filesystem::path AgentHandle::admin_socket() const { return process_->agent.root() / "run" / "admin.sock"; }

}  // namespace ordinald::testing
