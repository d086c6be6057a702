// What the verbs of `kd msl` read: a whole Metal source, or the body of a metal_kernel.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

#include "mlx_kd/devices/metal_text/host_array.h"
#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::cli {

// As the options give it.
struct MslSource {
  std::string file;
  std::vector<std::string> includes;
  std::vector<std::string> defines;    // NAME or NAME=VALUE
  std::vector<std::string> constants;  // INDEX=VALUE
  // Of the body of a metal_kernel.
  bool is_body = false;
  std::string header;                  // a file; empty: none
  std::vector<std::string> templates;  // NAME=VALUE
};

// The file and -I, -D, --constant.
void add_msl_source(CLI::App& verb, MslSource& source);
// --body, --header and --template.
void add_msl_body(CLI::App& verb, MslSource& source);

// What is parsed. Messages call a header kd_header and a body kd_body, as those of metal_kernel do.
struct MslText {
  std::string text;
  msl::PreprocessOptions preprocess;
  msl::TranslateOptions translate;
  std::string kernel;  // the function around a body; empty: of a whole source
};

// Misuse for a constant or a template argument that is none, and for --header or --template without
// --body. `inputs` and `outputs`: the arrays of a body.
MslText read_msl(const MslSource& source, const std::vector<devices::HostArray>& inputs,
                 const std::vector<devices::HostArray>& outputs);

}  // namespace mlx_kd::cli
