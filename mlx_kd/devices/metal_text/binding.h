// Which array is which buffer of a kernel. All are misuse, with the place in the Metal text.
#pragma once

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal_text/msl_request.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices {

// The kernel of that host name; "" names the only one.
const msl::Kernel& find_kernel(const msl::Translation& translation, const std::string& name);

// nullptr if the request has no array of that name.
HostArray* array_named(MslRequest& request, const std::string& name);

// Every array of the request belongs to a buffer.
void check_names(const msl::Kernel& kernel, const MslRequest& request);

// The array of a buffer, which must be there and of the buffer's type.
HostArray& array_of(const msl::Kernel& kernel, const msl::Binding& buffer, MslRequest& request,
                    const msl::SourceSet& sources);

// Every [[threadgroup(n)]] argument has its size.
void check_group_bytes(const msl::Kernel& kernel, const MslRequest& request,
                       const msl::SourceSet& sources);

// A refusal that names a place in the Metal text: that of `act`, or where it names none, `at`.
[[noreturn]] void refuse_at(const msl::SourceSet& sources, msl::Position at,
                            const base::Error& error);

// Runs `act`, whose refusals are about the kernel's launch.
template <class Act>
auto at_kernel(const msl::Kernel& kernel, const msl::SourceSet& sources, const Act& act) {
  try {
    return act();
  } catch (const base::Error& error) {
    if (error.exit_code() != 2) throw;
    refuse_at(sources, kernel.at, error);
  }
}

}  // namespace mlx_kd::devices
