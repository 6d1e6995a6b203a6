#pragma once

#include "mount/kernel.hpp"

/// What is on a device, and the proof that nothing is (rule 1 of the design). The verb Kernel::probe; stateless, any thread.
namespace ordinald::mount {

/// internal: a read failed, or libblkid did: never "blank". failed_precondition: not the device, or not the image, that was described.
Result<Probe> probe_device(const ProbeRequest& request);

}  // namespace ordinald::mount
