// Translated kernels -> objects of this CPU, in the cache that they share with the CPU's own
// kernels. Candidates, calls of metal_kernel and kd msl run all come through here.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/metal_text/translated_text.h"

namespace mlx_kd::devices::simt {

struct CompileOptions {
  bool check = false;       // report every access to the runtime; slow
  bool debug = false;       // no optimisation, debug information: for gdb
  bool syntax = false;      // only say what is wrong; no object
  bool contraction = true;  // products may be fused into sums; the translation says whether
  double timeout_s = 60;
};

// The compiler's options for one way of compiling, without files.
std::vector<std::string> flags_of(const CompileOptions& options);

struct Compiled {
  Artifact artifact;  // its error: the first of `found`, if any has a place
  std::vector<msl::Diagnostic>
      found;  // what the compiler refuses, with its place in the Metal text
};

// An object of the same text, options, prelude, compiler and CPU is taken from the cache, whose
// record says what it is for (`about`). Fails (exit 1) where there is no compiler. Thread-safe;
// compiles run in parallel.
Compiled compile(const msl::Unit& unit, const msl::Translation& translation,
                 const CompileOptions& options, const std::string& about);

// As Device::compile, from the text: what Metal does not allow is an Artifact with the place in it.
Artifact compile_text(const MetalText& text, const std::string& about, double timeout_s);

}  // namespace mlx_kd::devices::simt
