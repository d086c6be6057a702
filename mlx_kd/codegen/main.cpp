// Writes the functions that users call, from the table of operators:
//
//   mlx_kd_write_functions FOLDER TEMPLATE [OP=HEADER]...
//
// FOLDER/include/mlx_kd/runtime/call/ops.h (TEMPLATE with the declarations), FOLDER/operators.cpp
// (their definitions), FOLDER/python_operators.cpp (bindings), FOLDER/_operators.py (the names) and
// FOLDER/docs/operators-{cpp,python}.md. OP=HEADER: where MLX's form of an operator is declared.
// Run by the build; it needs neither a GPU nor Python.
#include <cstdio>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/codegen/text.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::codegen {
namespace {

namespace fs = std::filesystem;

// An unchanged file keeps its time, so that nothing is compiled again for it.
void write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  if (!fs::exists(file) || base::read_file(file, "codegen") != text)
    base::write_file_atomically(file, text, "codegen");
}

void replace(std::string& text, const std::string& mark, const std::string& by) {
  const size_t at = text.find(mark);
  if (at == text.npos) base::fail("codegen", "the template of ops.h has no " + mark);
  text.replace(at, mark.size(), by);
}

std::string header(const fs::path& from, const std::vector<Function>& functions) {
  std::string text = base::read_file(from, "codegen"), declarations, names;
  for (const Function& function : functions) {
    declarations += cpp_declaration(function, "MLX_KD_API ") + "\n";
    names += "using runtime::" + function.name + ";\n";
  }
  declarations.pop_back();
  replace(text, "@FUNCTIONS@", declarations);
  replace(text, "@USING@", names);
  return text;
}

int run(int argc, char** argv) {
  if (argc < 3)
    base::misuse("codegen", "usage: mlx_kd_write_functions FOLDER TEMPLATE [OP=HEADER]...");
  const fs::path folder = argv[1];
  std::map<std::string, std::string> forms;
  for (int i = 3; i < argc; ++i) {
    const std::string item = argv[i];
    const size_t equals = item.find('=');
    if (equals == item.npos) base::misuse("codegen", "'" + item + "' is not OP=HEADER");
    forms[item.substr(0, equals)] = item.substr(equals + 1);
  }
  const std::vector<Function> functions = functions_of(kernels::all_ops(), forms);
  write(folder / "include/mlx_kd/runtime/call/ops.h", header(argv[2], functions));
  write(folder / "operators.cpp", cpp_definitions(functions));
  write(folder / "python_operators.cpp", python_bindings(functions));
  write(folder / "_operators.py", python_module(functions));
  write(folder / "docs/operators-cpp.md", cpp_page(functions));
  write(folder / "docs/operators-python.md", python_page(functions));
  return 0;
}

}  // namespace
}  // namespace mlx_kd::codegen

int main(int argc, char** argv) try {
  return mlx_kd::codegen::run(argc, argv);
} catch (const mlx_kd::base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
} catch (const std::exception& error) {
  std::fprintf(stderr, "[codegen] %s\n", error.what());
  return 1;
}
