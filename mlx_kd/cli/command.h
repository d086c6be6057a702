// The program by the name that the user called it by.
#pragma once

#include <string>

namespace mlx_kd::cli {

// "./kd", "mlx-kd", "python -m mlx_kd": what $MLX_KD_COMMAND says, which the scripts that start the
// program set, else the program's own path as it was typed. Call it with argv[0] once, at the
// start.
void set_command(const char* argv0);
const std::string& command();

// The Python that runs MLX's models, which are Python: $MLX_KD_PYTHON, else python3.
std::string python_program();

// The text with "kd VERB" as the user would type it: messages of all rooms say "kd revalidate".
// Only verbs of the program count, at the start of a word and not within a path.
std::string as_called(const std::string& text);

}  // namespace mlx_kd::cli
