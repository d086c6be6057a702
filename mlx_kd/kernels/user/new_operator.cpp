// Text of the files that make an operator of a user's kernel: its description as C++, the text of
// the kernel, that of its reference, and a test.
#include "mlx_kd/kernels/new_operator.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user/space.h"

namespace mlx_kd::kernels {
namespace user {
namespace {

// As a literal of C++.
std::string literal(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return result + '"';
}

std::string number_text(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  const double again = std::stod(text);
  for (int digits = 1; digits < 17; ++digits) {
    char shorter[40];
    std::snprintf(shorter, sizeof shorter, "%.*g", digits, value);
    if (std::stod(shorter) == again) return shorter;
  }
  return text;
}

// "{a, b}" of what `make` gives for each.
template <class Items, class Make>
std::string braced(const Items& items, const Make& make) {
  std::string result;
  for (const auto& item : items) result += (result.empty() ? "" : ", ") + make(item);
  return "{" + result + "}";
}

std::string braced(const std::vector<std::string>& texts) {
  return braced(texts, literal);
}

std::string port_text(const UserPort& port) {
  std::string result =
      "{" + literal(port.name) + ", " + literal(port.type) + ", " + braced(port.shape);
  if (!port.least.empty()) result += ", " + literal(port.least) + ", " + literal(port.most);
  return result + "}";
}

std::string knob_text(const UserKnob& knob) {
  const auto value = [](int64_t one) { return std::to_string(one); };
  return "{" + literal(knob.name) + ", " + braced(knob.values, value) +
         (knob.launch ? ", true}" : "}");
}

std::string scalar_text(const spec::Scalar& scalar) {
  const std::string value = number_text(scalar.default_value);
  return "{" + literal(scalar.name) + ", " + value + ", {" + value + "}}";
}

std::string size_text(const spec::Dims& size) {
  return braced(size.items(), [](const auto& item) {
    return "{" + literal(item.first) + ", " + std::to_string(item.second) + "}";
  });
}

std::string kernel_file(const UserKernel& kernel, const std::string& name) {
  return name + (kernel.language == "metal"  ? ".metal"
                 : kernel.language == "cuda" ? ".cu"
                                             : ".cpu.cpp");
}

// "row_softmax" -> "RowSoftmax".
std::string camel_case(const std::string& name) {
  std::string result;
  bool begins = true;
  for (const char c : name) {
    if (c != '_') result += begins ? static_cast<char>(std::toupper(c)) : c;
    begins = c == '_';
  }
  return result;
}

bool is_like(const UserKernel& kernel) {
  return kernel.reference.kind == UserReference::Kind::op;
}

// What the table needs to know of a kernel, one statement each; what is at its default is left out.
class OpText {
 public:
  OpText(const UserKernel& kernel, const NewOperator& about) : kernel_(kernel), about_(about) {}

  std::string whole() {
    const std::string& name = about_.name;
    text_ = "// " + summary() +
            ". The expressions are those of kd tune; each may be replaced by C++\n"
            "// (docs/add-an-operator.md).\n"
            "#include \"mlx_kd/kernels/new_operator.h\"\n#include \"mlx_kd/kernels/op_table.h\"\n\n"
            "namespace mlx_kd::kernels {\n\nspec::Op make_" +
            name + "();\n" +
            (is_like(kernel_) ? "spec::Op make_" + kernel_.reference.name + "();\n" : "") +
            "\nnamespace " + name +
            " {\nnamespace {\n\nUserKernel described() {\n  UserKernel kernel;\n";
    describe();
    text_ += "  return kernel;\n}\n\n}  // namespace\n}  // namespace " + name +
             "\n\nspec::Op make_" + name + "() {\n";
    make();
    return text_ + "  return op;\n}\n\n}  // namespace mlx_kd::kernels\n";
  }

 private:
  std::string summary() const {
    if (!about_.summary.empty()) return about_.summary;
    if (is_like(kernel_)) return "as " + kernel_.reference.name + ", by a kernel of its own";
    const std::string& name = kernel_.reference.name;
    return "what " + (name.empty() ? kernel_.function : name) + " of reference.py computes";
  }

  void set(const std::string& field, const std::string& value) {
    text_ += "  kernel." + field + " = " + value + ";\n";
  }

  void describe() {
    set("name", literal(about_.name));
    set("function", literal(kernel_.function));
    set("language", literal(kernel_.language));
    set("file", literal(kernel_file(kernel_, about_.name)));
    set("source", "kernel_source(" + literal(folder() + kernel_file(kernel_, about_.name)) + ")");
    if (!kernel_.type.empty()) set("type", literal(kernel_.type));
    if (!is_like(kernel_)) describe_ports();
    set("knobs", braced(kernel_.knobs, knob_text));
    if (!kernel_.constraints.empty()) set("constraints", braced(kernel_.constraints));
    set("grid", braced(kernel_.grid));
    if (!kernel_.group.empty()) set("group", braced(kernel_.group));
    if (!kernel_.threads.empty()) set("threads", literal(kernel_.threads));
    if (!is_like(kernel_)) describe_reference();
    set("sizes", braced(kernel_.sizes, size_text));
  }

  void describe_ports() {
    set("inputs", braced(kernel_.inputs, port_text));
    set("outputs", braced(kernel_.outputs, port_text));
    set("dims", braced(kernel_.dims));
    if (!kernel_.batch_dim.empty()) set("batch_dim", literal(kernel_.batch_dim));
    if (!kernel_.scalars.empty()) set("scalars", braced(kernel_.scalars, scalar_text));
  }

  void describe_reference() {
    set("reference.kind", "UserReference::Kind::python");
    if (!kernel_.reference.name.empty()) set("reference.name", literal(kernel_.reference.name));
    set("reference.path", "\"reference.py\"");
    set("reference.text", "kernel_source(" + literal(folder() + "reference.py") + ")");
    const UserJudge& judge = kernel_.judge;
    if (judge.name != "bound")
      set("judge", "{" + literal(judge.name) + ", " + number_text(judge.relative) + ", " +
                       number_text(judge.absolute) + "}");
  }

  void make() {
    const std::string described = about_.name + "::described()";
    text_ += is_like(kernel_) ? "  spec::Op op = table_op(" + described + ", make_" +
                                    kernel_.reference.name + "());\n"
                              : "  spec::Op op = table_op(" + described + ");\n";
    text_ += "  op.summary = " + literal(summary()) + ";\n";
    if (is_like(kernel_)) return;
    std::string brief = summary() + ".";
    brief[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(brief[0])));
    text_ += "  op.doc.brief = " + literal(brief) + ";\n";
    text_ += "  op.doc.parameters = " +
             braced(kernel_.inputs,
                    [](const UserPort& port) {
                      return "{" + literal(port.name) + ", " + literal(shape_words(port)) + "}";
                    }) +
             ";\n";
    text_ += "  op.doc.returns = " + literal(returns()) + ";\n";
  }

  static std::string shape_words(const UserPort& port) {
    std::string axes;
    for (const std::string& axis : port.shape) axes += (axes.empty() ? "" : ", ") + axis;
    return "[" + axes + "]" + (port.type == "T" ? "" : ", " + port.type) + ".";
  }

  std::string returns() const {
    std::string result;
    for (const UserPort& port : kernel_.outputs) {
      const std::string words = shape_words(port);
      result += (result.empty() ? "" : ", ") + port.name + " " + words.substr(0, words.size() - 1);
    }
    return result + ".";
  }

  std::string folder() const { return about_.family + "/" + about_.name + "/"; }

  const UserKernel& kernel_;
  const NewOperator& about_;
  std::string text_;
};

// What a run had, as tests: the launch of its first size, what won, and a size that is refused.
class TestText {
 public:
  TestText(const UserKernel& kernel, const NewOperator& about) : kernel_(kernel), about_(about) {}

  std::string whole() {
    text_ =
        "// That it is proved in every type and on every device is tested for all operators "
        "together.\n"
        "#include <gtest/gtest.h>\n\n#include \"mlx_kd/base/error.h\"\n"
        "#include \"mlx_kd/kernels/op_table.h\"\n\nnamespace mlx_kd::kernels {\nnamespace {\n";
    add_launch();
    add_winners();
    add_refusal();
    return text_ + "\n}  // namespace\n}  // namespace mlx_kd::kernels\n";
  }

 private:
  void begin(const std::string& name) {
    text_ += "\nTEST(" + camel_case(about_.name) + ", " + name +
             ") {\n  const spec::Op& op = find_op(" + literal(about_.name) + ");\n";
  }

  static std::string parsed(const char* type, const std::string& text) {
    return std::string("spec::") + type + "::parse(" + literal(text) + ")";
  }

  void add_launch() {
    const spec::Setting knobs =
        about_.won.empty() ? spec::default_setting(space_of(kernel_)) : about_.won.front();
    const spec::Dims& size = kernel_.sizes.front();
    const spec::Launch launch = launch_of(kernel_)(size, knobs);
    const auto numbers = [](const std::array<int64_t, 3>& values) {
      return "(std::array<int64_t, 3>" +
             braced(values, [](int64_t one) { return std::to_string(one); }) + ")";
    };
    begin("IsLaunchedAsItWasTuned");
    text_ += "  const auto launch = op.variants.front().launch(" + parsed("Dims", size.text()) +
             ", " + parsed("Setting", knobs.text()) + ");\n  EXPECT_EQ(launch.grid, " +
             numbers(launch.grid) + ");\n  EXPECT_EQ(launch.group, " + numbers(launch.group) +
             ");\n  EXPECT_EQ(launch.threads, " + std::to_string(launch.threads) + ");\n}\n";
  }

  void add_winners() {
    if (about_.won.empty()) return;
    begin("HasTheSettingsThatWon");
    text_ += "  const spec::Space space = op.variants.front().space(op.types.front(), {});\n";
    for (const spec::Setting& setting : about_.won)
      text_ += "  EXPECT_TRUE(spec::is_valid(space, " + parsed("Setting", setting.text()) + "));\n";
    text_ += "}\n";
  }

  void add_refusal() {
    for (const std::string& name : sized_op(kernel_).dim_names()) {
      spec::Dims size = kernel_.sizes.front();
      size.set(name, size.at(name) + 1);
      try {
        check_fit(kernel_, size);
      } catch (const base::Error&) {
        begin("RefusesASizeThatItsSettingsDoNotFit");
        text_ += "  EXPECT_THROW(spec::complete(op, " + parsed("Dims", size.text()) +
                 "), base::Error);\n}\n";
        return;
      }
    }
  }

  const UserKernel& kernel_;
  const NewOperator& about_;
  std::string text_;
};

void check_word(const std::string& what, const std::string& word) {
  const auto fits = [](unsigned char c) { return std::islower(c) || std::isdigit(c) || c == '_'; };
  if (!word.empty() && std::islower(static_cast<unsigned char>(word.front())) &&
      std::all_of(word.begin(), word.end(), fits))
    return;
  base::misuse("new-op", "'" + word + "' cannot name an operator's " + what +
                             ": write FAMILY/NAME in small letters, digits and underscores, for "
                             "example activations/row_softmax");
}

void check_new(const UserKernel& kernel, const NewOperator& about) {
  check_word("family", about.family);
  check_word("folder", about.name);
  for (const spec::Op& op : all_ops())
    if (op.name == about.name)
      base::misuse("new-op",
                   "'" + about.name + "' is an operator of the table: choose another name");
  if (kernel.reference.kind == UserReference::Kind::recorded)
    base::misuse("new-op", kernel.file +
                               " was held against recorded arrays, which prove one size: tune it "
                               "with a function as --ref");
  if (!kernel.launches.empty())
    base::misuse("new-op", kernel.file +
                               " lists its launches, which are of one size: state grid and group "
                               "as expressions");
}

}  // namespace
}  // namespace user

std::map<std::string, std::string> operator_files(const UserKernel& given,
                                                  const NewOperator& about) {
  user::check_new(given, about);
  UserKernel kernel = given;
  kernel.name = about.name;
  const std::string folder = "mlx_kd/kernels/" + about.family + "/" + about.name + "/";
  std::map<std::string, std::string> files = {
      {folder + "op.cpp", user::OpText(kernel, about).whole()},
      {folder + user::kernel_file(kernel, about.name), kernel.source},
      {"tests/kernels/" + about.family + "/" + about.name + "_test.cpp",
       user::TestText(kernel, about).whole()}};
  if (!user::is_like(kernel)) files[folder + "reference.py"] = kernel.reference.text;
  return files;
}

}  // namespace mlx_kd::kernels
