// Which array is which buffer of a kernel. All are misuse, with the place in the Metal text.
#pragma once

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/metal_text/msl_request.h"
#include "mlx_kd/devices/metal_text/translated_text.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices {

// The kernel of that host name; "" names the only one.
const msl::Kernel& find_kernel(const msl::Translation& translation, const std::string& name);

// nullptr if the request has no array of that name.
HostArray* array_named(MslRequest& request, const std::string& name);

// Every array of the request belongs to a buffer.
void check_names(const msl::Kernel& kernel, const MslRequest& request);

// The array of a buffer, which must be of the buffer's type. nullptr where it is not given and the
// function constant of [[function_constant(NAME)]] switches the buffer off.
HostArray* array_of(const msl::Kernel& kernel, const msl::Binding& buffer, MslRequest& request,
                    const TranslatedText& text);

// `given`: the sizes that are known, one for each threadgroup argument.
void check_group_bytes(const msl::Kernel& kernel, size_t given, const msl::SourceSet& sources);

// Every function constant that the kernel reads has a value. One that the source asks for with
// is_function_constant_defined may lack it.
void check_constants(const TranslatedText& text, const msl::Kernel& kernel);

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
