// From the files of a kernel to its parts, language by language.
#pragma once

#include "mlx_kd/kernels/user/head.h"

namespace mlx_kd::kernels::user {

// What a text says of itself and the head of it alone.
struct Source {
  std::string file;                 // its name, for messages
  std::string text;                 // with the files that it includes in quotes
  std::vector<std::string> places;  // of its lines: "softmax.metal:3"
  Head head;
};

// A kernel's parameters as Metal declares them.
struct Signature {
  std::vector<UserPort> inputs, outputs;  // without shapes; type "T" or a fixed one
  std::vector<std::string> whole, real;   // numbers: constant int&, constant float&
  std::string type;  // "float16": what T is where the text does not let it vary
  // Of a file with several kernels: the knobs that this one does not use, and the parameters that
  // the others have.
  std::vector<std::string> unused_knobs = {}, other_parameters = {};
};

// Adds what compiles the kernel of that name to `kernel.source` (an instantiation, constants in
// place of function constants, or a whole kernel around the body of a metal_kernel) and gives its
// signature. The file's other kernels are cut out. Misuse, with the place, for no such kernel and
// for parameters that kd cannot bind.
Signature prepare_metal(const Source& source, UserKernel& kernel);

// The kernels that a file defines, by the names that the host calls; none of a body.
std::vector<std::string> metal_kernels(const Source& source, const UserKernel& kernel);

// What --ref, or the head's line, names; files are read. Misuse where neither is there.
UserReference parse_reference(const UserKernelFiles& files, const Head& head);
// "bound", "exact", "close:rtol=1e-3,atol=1e-5"; empty: the reference's default.
UserJudge parse_judge(const std::string& given, const UserReference& reference);
// The recorded arrays have one size, which says what the kernel's sizes are.
void take_recorded_size(UserKernel& kernel);

}  // namespace mlx_kd::kernels::user
