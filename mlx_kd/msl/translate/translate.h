// Metal -> C++ for the executor, Metal -> CUDA.
//
//   Unit unit = parse("k.metal", text, {});
//   Translation cpp = translate(unit, Target::cpp, {});      // compile with the prelude's folder
//
// The C++ text includes "kd_metal.h", the CUDA text too: the prelude (prelude.h) holds it for both.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mlx_kd/msl/parse/edits.h"
#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

struct TranslateOptions {
  std::map<int, std::string> function_constants;  // index -> value as Metal writes it: "8", "true"
  bool numbers_by_value = false;                  // CUDA: see cuda_layout below
  bool buffers_apart = false;                     // CUDA: no two buffers overlap (__restrict__)
  // But these: pairs of names that are one array, in a kernel that has buffers of both.
  std::vector<std::pair<std::string, std::string>> same_memory = {};
  // CUDA: buffers of these names, const constant long*, hold kListLength numbers, passed by value.
  std::set<std::string> lists_by_value = {};
  // CUDA: all launches are of whole threadgroups of one dimension, so the grid is no parameter
  // (KD_WHOLE_LINES in kd_place.h).
  bool whole_lines = false;
  // Functions of bfloat that Metal does not have and MLX adds to the kernels that it makes: exp(b).
  bool bfloat_functions = true;
  // The kernel of this host name alone can be run, so that a library of hundreds of instantiations
  // compiles as one of them. Empty: all can.
  std::string only = {};
};
constexpr int kListLength = 4;

// A parameter of a kernel that the host binds.
struct Binding {
  std::string name;
  std::string type;  // "float", "half4", a template's parameter replaced by its argument
  int index = 0;     // of its buffer, or of its threadgroup memory
  Space space = Space::device;
  bool is_const = false;
  bool reference = false;  // one value, not an array
  bool of_array = false;   // a reference to an array type: a pointer here
  std::string present_if;  // the constant that says whether it is there; "": always
  Position at;
};

struct Kernel {
  std::string name;              // what the host calls it
  std::string function;          // its name in Metal
  std::string symbol;            // its symbol in the translation; C++: see entries below
  std::vector<Binding> buffers;  // by index
  std::vector<Binding> groups;   // [[threadgroup(n)]]: sizes come from the host
  std::string most_threads;      // max_total_threads_per_threadgroup; "": none that is known
  bool meets = false;            // has barriers or simd functions
  bool split = false;            // its barriers cut it into loops: its threads need no fibers
  Position at;
};

struct Translation {
  std::string text;
  std::vector<Kernel> kernels;  // in order of place; templates by their instantiations
  std::vector<Position> sites;  // C++: where the barriers and simd functions are, by site number
  std::vector<ColumnMark> columns;  // C++: for reading the compiler's messages
  std::vector<std::string> notes;   // what the reader of the CUDA text should know
  bool contraction = true;  // false: the text must be compiled without fusing products into sums
};

// C++: a kernel with symbol S has two functions with C linkage, of the types in prelude/abi.h:
//   S_thread   runs one thread; called on a fiber
//   S_group    runs all threads of a group in loops; only if the kernel does not meet or is split.
//              For split kernels it is left out where KD_NO_SPLIT is defined.
//   S_bytes    an array of the sizes of what its threadgroup arguments refer to, 0 for pointers;
//              only where there are such arguments
// CUDA: S is an extern "C" __global__ function; its parameters are the buffers in order of index
// (but see cuda_layout), one byte offset into dynamic shared memory for each of `groups`, and,
// unless whole_lines are promised, the grid's threads in x, y, z.
//
// Misuse for what breaks a rule of Metal and for overloads that differ in address space and body.
Translation translate(const Unit& unit, Target target, const TranslateOptions& options);

// A parameter of a CUDA kernel.
struct CudaParameter {
  enum class Kind {
    pointer,       // const T* or T*
    real,          // a float by value
    whole,         // an int by value, or the bits of an unsigned one
    flag,          // a bool by value
    low,           // the lower half of a 64-bit integer, as an int
    high,          // and its upper half, which follows
    list,          // kListLength int64_t by value
    group_offset,  // of threadgroup memory, in bytes
    grid,          // threads in x, y or z
  } kind;
  size_t binding = 0;  // in Kernel::buffers; in Kernel::groups for group_offset; 0..2 for grid
};

// The parameters of a CUDA kernel in order. With numbers_by_value the pointers to what is only read
// come first, then the other pointers, then each constant reference to one number, by value: no
// memory is needed for it, and MLX's custom kernels take their arguments in this order. Lists by
// value are among the numbers.
std::vector<CudaParameter> cuda_layout(const Kernel& kernel, const TranslateOptions& options);

}  // namespace mlx_kd::msl
