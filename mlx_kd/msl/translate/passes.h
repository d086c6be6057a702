// The steps of a translation. Each marks its changes in Edits; they do not depend on their order
// unless said.
#pragma once

#include <vector>

#include "mlx_kd/msl/parse/calls.h"
#include "mlx_kd/msl/parse/edits.h"
#include "mlx_kd/msl/translate/split.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::msl {

// 1.0 -> 1.0f, 1.0h -> half(1.0f), 1.0bf -> bfloat(1.0f). (C++ has double, Metal has not.)
void edit_literals(const Unit& unit, Edits& edits);

// v.xy -> v.swizzle(kd_order<0, 1>{}), v.xy = -> v.place(kd_order<0, 1>{}) =, v.r -> v.x; not for
// names that are fields of the source's own structs.
void edit_swizzles(const Unit& unit, Edits& edits);

// template <uint N> f(vec<T, N>) -> template <int N>: C++ deduces the width of a vector from its
// own type alone.
void edit_widths(const Unit& unit, Edits& edits);

// float4 v = {a, b}; -> = kd_braces<float4>(a, b); a[4] = {[0 ... 3] = x}; -> a loop over a.
void edit_braces(const Unit& unit, Edits& edits);

// c ? a : b -> kd_pick(c, [&] { return a; }, [&] { return b; }) where a 16-bit type may meet a
// float: C++ finds no common type for classes that convert both ways.
void edit_ternaries(const Unit& unit, Edits& edits);

// Attributes, address spaces (constant -> const), the word kernel, instantiations, overloads that
// differ in address space alone.
void edit_qualifiers(const Unit& unit, Edits& edits);

// Half and bfloat in anonymous structs; references to array types, which are pointers here: a
// buffer that is bound to one is indexed beyond its end. After edit_qualifiers.
void edit_arrays(const Unit& unit, Edits& edits);

// Threadgroup variables, constants of the source, function constants. After edit_qualifiers.
void edit_variables(const Unit& unit, Target target, const TranslateOptions& options, Edits& edits);

// C++: simd_sum(x) -> simd_sum(kd_site{7}, x). Returns where the sites are.
std::vector<Position> edit_sites(const Unit& unit, Edits& edits);

// CUDA: __device__ in front of functions, kernels that are not templates become __global__.
void edit_functions(const Unit& unit, const TranslateOptions& options, Edits& edits);

// CUDA: what the source puts into namespace metal, and its specialisations of Metal's classes, are
// put there, not into the namespace that the source has of its own.
void edit_namespaces(const Unit& unit, Edits& edits);

// What follows the text: the entries of C++, the __global__ functions of instantiations.
std::string entry_text(const Unit& unit, const Function& function, const std::string& arguments,
                       const Kernel& kernel);
std::string cuda_entry_text(const Unit& unit, const Function& function,
                            const std::string& arguments, const Kernel& kernel,
                            const TranslateOptions& options);

// C++: the function that runs the threads of a group as loops between its barriers, a template
// where the kernel is one. `arguments` of the template for its entry.
std::string split_text(const Unit& unit, const Function& function, const Split& split,
                       const Edits& edits);
std::string split_entry_text(const Function& function, const std::string& arguments,
                             const Kernel& kernel);

// What the host binds to a kernel; `values` are the arguments of its template.
Kernel describe_kernel(const Unit& unit, const Function& function,
                       const std::vector<std::string>& values);

// "copy f32" -> "copy_f32".
std::string symbol_of(const std::string& name);

}  // namespace mlx_kd::msl
