// A kernel of a whole Metal source -> the body that metal_kernel takes: the way back from
// body_form.h.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// How metal_kernel gets the rest of what a body needs.
struct BodyOptions {
  std::set<std::string> inputs = {};  // parameters that it declares: numbers that are inputs
                                      // without axes, the strides of inputs
  bool helpers = false;               // its header is helpers_of
};

// The text between the braces of the kernel of that host name, macros expanded and conditions
// decided, behind a constant for each buffer that holds one number: `numbers` gives its value as
// Metal writes it ("eps" -> "1e-06f").
//
// metal_kernel declares the parameters, so they must be what it would declare: thread positions are
// named and typed as their attributes, arrays lie in device memory. The array types' name T stays
// free: it is a template parameter there. Misuse, with the place, for a kernel that is not so, that
// uses functions or globals of its source without a header for them, or that has a number without a
// value; also where the source has no such kernel.
std::string body_of(const Unit& unit, const std::string& kernel,
                    const std::map<std::string, std::string>& numbers,
                    const BodyOptions& options = {});

// All of the source but its kernels: types, constants and functions, macros expanded.
std::string helpers_of(const Unit& unit);

// A float literal of Metal with that value: 1e-6 -> "1e-06f".
std::string float_text(double value);

// What zmlx.kd puts in front of the bodies in its packs, as one header for metal_kernel.
std::string_view first_version_helpers();

}  // namespace mlx_kd::msl
