// The preprocessor: includes, macros, conditions. What leaves it is Metal without directives.
//
// It is our own because kernels are declared through macros (instantiate_kernel of MLX, for one)
// and every message has to name the place in the Metal text. A token that a macro made has the
// place of the macro's use.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mlx_kd/msl/text/lexer.h"

namespace mlx_kd::msl {

struct PreprocessOptions {
  std::vector<std::filesystem::path> include_folders;  // after the folder of the including file
  std::map<std::string, std::string> defines;          // name -> replacement, before the first line
  std::map<std::string, std::string> texts;            // includes that are not files: name -> text
};

// The tokens of `file` and of all that it includes. <metal_stdlib> and its parts are known and
// leave nothing. Misuse for a missing include, a broken directive, includes deeper than 64 and
// macros that grow beyond 4 million tokens.
Tokens preprocess(SourceSet& sources, uint32_t file, const PreprocessOptions& options);

}  // namespace mlx_kd::msl
