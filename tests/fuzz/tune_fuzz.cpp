// rooms: kernels
// What kd tune reads: descriptions of kernels, as runs and packs hold them, heads of kernel files
// and TOML files with any content. Each ends in an operator, in lines, or in a message.
#include <cstdlib>
#include <iterator>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/user/expression.h"
#include "mlx_kd/kernels/user/head.h"
#include "mlx_kd/kernels/user_kernel.h"
#include "tests/fuzz/mutations.h"

namespace {

using namespace mlx_kd;
using base::Json;

Json description() {
  const Json x = {
      {"name", "x"}, {"type", "T"}, {"shape", {"rows", "D"}}, {"range", {"0", "D - 1"}}};
  return {{"version", 1},
          {"name", "scale_rows"},
          {"function", "scale_rows"},
          {"language", "cpp"},
          {"file", "scale.cpu.cpp"},
          {"source", "extern \"C\" void scale_rows();"},
          {"type", ""},
          {"inputs", {x}},
          {"outputs", {{{"name", "y"}, {"type", "T"}, {"shape", {"rows", "D"}}}}},
          {"dims", {"rows", "D"}},
          {"scalars", {{{"name", "factor"}, {"value", 0.5}}}},
          {"batch_dim", "rows"},
          {"knobs", {{{"name", "TG"}, {"values", {2, 1}}, {"launch", true}}}},
          {"constraints", {"TG <= rows || D % 2 == 0"}},
          {"grid", {"rows"}},
          {"group", {"min(TG, ceil_div(rows, 2))"}},
          {"threads", "2"},
          {"launches", {{"TG=2", {4, 1, 1, 2, 1, 1}}}},
          {"reference",
           {{"kind", "python"},
            {"name", "scale_rows"},
            {"text", "def scale_rows(x): return x"},
            {"path", "scale.py"},
            {"sha256", ""},
            {"has_graph", false}}},
          {"judge", {{"name", "bound"}, {"relative", 0.0}, {"absolute", 0.0}}},
          {"sizes", {"rows=4,D=8"}}};
}

constexpr const char* kLines[] = {"// kd: in x (rows, D)",
                                  "// kd: in index: int32 (rows) from 0 to D - 1",
                                  "// kd: out y (rows, D)",
                                  "// kd: grid (rows * TG)",
                                  "// kd: group (TG)",
                                  "// kd: where TG * VEC <= D",
                                  "// kd: knob VEC 1, 2, 4",
                                  "// kd: launch TG=64,VEC=1 4096 1 1 64 1 1",
                                  "// kd: body",
                                  "// kd: scalar eps 1e-5",
                                  "// kd: sizes rows, D",
                                  "// kd: batch rows",
                                  "// kd: reference softmax.py",
                                  "// kd: judge close rtol=1e-3 atol=1e-5",
                                  "#ifndef TG",
                                  "#define TG 64  // knob: 32, 64",
                                  "#endif",
                                  "#define T float  // type",
                                  "/* a comment",
                                  "*/ \"// kd: no line\"",
                                  "in = [\"x (rows, D)\"]",
                                  "grid = \"rows * TG\"",
                                  "[knobs]",
                                  "TG = [32, 64]",
                                  "[launch]",
                                  "\"TG=64\" = [1, 1, 1, 1, 1, 1]",
                                  "scalars = { eps = 1e-5 }",
                                  "where = ['D % VEC == 0', \"a\\u00e9\"]",
                                  "text = '''",
                                  "'''"};

// Lines of both languages in any order, some with a byte changed.
std::string lines(const uint8_t* data, size_t size) {
  fuzz::Choices choices(data, size);
  std::string text;
  for (int i = 0; i < 24 && choices.any_left(); ++i) {
    std::string line = kLines[choices.below(std::size(kLines))];
    if (choices.below(3) == 0)
      line[choices.below(line.size())] = static_cast<char>(choices.below(256));
    text += line + "\n";
  }
  return text;
}

void read_description(const Json& value) {
  const kernels::UserKernel kernel = kernels::user_kernel_from_json(value);
  if (kernels::to_json(kernels::user_kernel_from_json(kernels::to_json(kernel))) !=
      kernels::to_json(kernel))
    std::abort();
  kernels::sized_op(kernel);
  kernels::user_op(kernel);
}

void read_texts(const std::string& text) {
  fuzz::try_to([&] {
    const kernels::user::Head head = kernels::user::read_head(text, "fuzz.metal");
    for (const kernels::user::HeadLine* line : head.all("in")) kernels::user::port_of(*line);
  });
  fuzz::try_to([&] {
    kernels::user::Head head;
    kernels::user::add_toml(text, "fuzz.toml", head);
  });
  fuzz::try_to([&] {
    const kernels::user::Expression expression(text);
    expression.value([](size_t name) { return static_cast<int64_t>(name) * 1000003 - 7; });
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const uint8_t kind = size > 0 ? data[size - 1] % 3 : 0;
  if (kind == 0)
    fuzz::try_to([&] {
      read_description(
          base::parse_json(fuzz::changed(description(), data, size), "fuzz", "a description"));
    });
  else if (kind == 1)
    read_texts(lines(data, size));
  else
    read_texts({reinterpret_cast<const char*>(data), size});
  return 0;
}
