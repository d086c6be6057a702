// A kernel that a user brings: what `kd tune` knows of it, and the operator that it becomes.
//
// The description is whole: it holds the texts of the kernel and of the reference as they were
// read, so that a worker, a later revalidation and a program that loads the winners make the same
// operator from it, whatever becomes of the files. As JSON it is Op::description, "kernel" of a
// run's run_meta.json and "kernel" of a pack's entry.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

struct UserPort {
  std::string name;
  std::string type;                // "T" (the run's --dtype), or a fixed one: "float32", "int32"
  std::vector<std::string> shape;  // an expression over sizes for each axis
  // What inputs are filled with: whole or real numbers in [least, most], as expressions over sizes.
  // Empty: normal numbers, and large and tiny magnitudes.
  std::string least = {}, most = {};
};

struct UserKnob {
  std::string name;
  std::vector<int64_t> values;  // the first is the default
  bool launch = false;          // no macro of the source: another value needs no compile
};

struct UserReference {
  enum class Kind { op, python, recorded } kind = Kind::op;
  std::string name = {};  // the operator; the function of the Python file
  std::string text = {};  // of the Python file
  // The Python file, or the recorded arrays (.npz, .safetensors): inputs and outputs by name.
  std::string path = {};
  std::string sha256 = {};  // of the recorded file
  bool has_graph = false;   // the Python function is one of MLX: times are compared with it
};

// How outputs are judged. `bound`: within an error bound around float64, whose terms come from the
// reference's sensitivity to its inputs. `close`: |y - y64| <= absolute + relative |y64|. `exact`:
// bit for bit. A reference that is an operator brings its own judges.
struct UserJudge {
  std::string name = "bound";
  double relative = 0, absolute = 0;  // of close
};

struct UserKernel {
  std::string name;      // of the operator: the function's, unless another is given
  std::string function;  // as the source calls it
  std::string language;  // "metal", "cuda", "cpp"
  std::string file;      // name of its file, for messages
  std::string source;    // the whole text that is compiled
  std::string type;      // the type that the source is written for; empty: any of the three
  std::vector<UserPort> inputs, outputs;
  std::vector<std::string> dims;      // sizes, in order
  std::vector<spec::Scalar> scalars;  // numbers passed at run time
  std::string batch_dim = {};         // sizes of which smaller ones are parts of the same problem
  std::vector<UserKnob> knobs;
  std::vector<std::string> constraints;  // expressions over knobs and sizes that must not be 0
  // GPU: threads of the grid and of a group, up to three each. CPU: units, units a task, threads.
  std::vector<std::string> grid, group;
  std::string threads = {};
  // In place of the expressions, where they are not known as such: six numbers, grid and group, by
  // the text of a setting ("TG=64,VEC=1"). Settings without an entry are not valid.
  std::map<std::string, std::vector<int64_t>> launches = {};
  UserReference reference;
  UserJudge judge;
  // Where the source's lines come from: "softmax.metal:3", or "". Of this process, not in JSON.
  std::vector<std::string> places = {};
  std::vector<spec::Dims> sizes;  // of the run: constraints that name sizes hold at all of them
};

base::Json to_json(const UserKernel& kernel);
// Misuse (room tune) for what is not one.
UserKernel user_kernel_from_json(const base::Json& value);

// Reads the kernel `function` from a .metal, .cu or .cpu.cpp file, the head of which describes it
// (docs/tune-your-own.md), and FILE.toml or `config` in addition. Misuse, naming file and line, for
// what is missing or wrong; all but the reference and the sizes are there then.
struct UserKernelFiles {
  std::filesystem::path file;
  std::string function;
  std::string name = {};  // of the operator; empty: the function
  std::filesystem::path config = {};
  std::string reference = {};  // operator, FILE.py[:FUNCTION], FILE.npz, FILE.safetensors
  std::string judge = {};      // "bound", "exact", "close:rtol=1e-3,atol=1e-5"
};
UserKernel read_user_kernel(const UserKernelFiles& files);

// The message with places in the user's files where it names lines of the kernel's source.
std::string in_user_files(const UserKernel& kernel, const std::string& message);

// The operator as far as sizes are concerned: its name, dims and ports.
spec::Op sized_op(const UserKernel& kernel);

// Runs the Python file once, for the first of the sizes, and sets has_graph. Misuse (room tune) for
// a file that throws, takes too long or has no such function.
void try_reference(UserKernel& kernel, spec::Dtype t);

// Checks what needs the sizes of a run, takes them over, and walks the valid settings: misuse for
// no valid one, a launch without threads or beyond what a device takes, a division by 0.
void set_sizes(UserKernel& kernel, const std::vector<spec::Dims>& sizes);

// The operator. Misuse where its name is taken by the table, or a part contradicts another.
spec::Op user_op(const UserKernel& kernel);

// The same, kept for find_op() of this process; the one that is kept already where the descriptions
// are equal. Thread-safe. The reference lives as long as the process.
const spec::Op& add_user_op(const UserKernel& kernel);
const spec::Op& add_user_op(const base::Json& description);

}  // namespace mlx_kd::kernels
