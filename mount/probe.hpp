#pragma once

#include "mount/kernel.hpp"

/// What is on a device, and the proof that nothing is (rule 1 of the design). The verb Kernel::probe; stateless, any thread.
namespace ordinald::mount {

/// Everything that libblkid knows in an open device or file of so many bytes, of every usage, damaged ones included, and partition tables.
Result<std::vector<Signature>> find_signatures(int fd, std::uint64_t size, const std::string& name);

/// internal: a read failed, or libblkid did: never "blank". failed_precondition: not the device, or not the image, that was described.
Result<Probe> probe_device(const ProbeRequest& request);

}  // namespace ordinald::mount
