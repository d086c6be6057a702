// Metal -> C++ for the executor, Metal -> CUDA.
//
//   Unit unit = parse("k.metal", text, {});
//   Translation cpp = translate(unit, Target::cpp, {});      // compile with the prelude's folder
//
// The C++ text includes "kd_metal.h", the CUDA text too: the prelude (prelude.h) holds it for both.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/msl/edits.h"
#include "mlx_kd/msl/unit.h"

namespace mlx_kd::msl {

struct TranslateOptions {
  std::map<int, std::string> function_constants;  // index -> value as Metal writes it: "8", "true"
};

// A parameter of a kernel that the host binds.
struct Binding {
  std::string name;
  std::string type;  // "float", "half4", a template's parameter replaced by its argument
  int index = 0;     // of its buffer, or of its threadgroup memory
  Space space = Space::device;
  bool is_const = false;
  bool reference = false;  // one value, not an array
  Position at;
};

struct Kernel {
  std::string name;              // what the host calls it
  std::string function;          // its name in Metal
  std::string symbol;            // its symbol in the translation; C++: see entries below
  std::vector<Binding> buffers;  // by index
  std::vector<Binding> groups;   // [[threadgroup(n)]]: sizes come from the host
  bool meets = false;            // has barriers or simd functions
  bool split = false;            // its barriers cut it into loops: its threads need no fibers
  Position at;
};

struct Translation {
  std::string text;
  std::vector<Kernel> kernels;  // in order of place; templates by their instantiations
  std::vector<Position> sites;  // C++: where the barriers and simd functions stand, by site number
  std::vector<ColumnMark> columns;  // C++: for reading the compiler's messages
  std::vector<std::string> notes;   // what the reader of the CUDA text should know
};

// C++: a kernel with symbol S has two functions with C linkage, of the types in prelude/abi.h:
//   S_thread   runs one thread; called on a fiber
//   S_group    runs all threads of a group in loops; only if the kernel does not meet or is split.
//              For split kernels it is left out where KD_NO_SPLIT is defined.
// CUDA: S is an extern "C" __global__ function; its parameters are the buffers in order of index,
// one byte offset into dynamic shared memory for each of `groups`, and the grid's threads in x, y,
// z.
//
// Misuse for what breaks a rule of Metal and for overloads that differ in address space and body.
Translation translate(const Unit& unit, Target target, const TranslateOptions& options);

}  // namespace mlx_kd::msl
