// What the parser finds in a Metal source: the declarations that matter for translating it. Indices
// count tokens of Unit::tokens; a range is [first, last).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "mlx_kd/msl/text/lexer.h"

namespace mlx_kd::msl {

enum class Space : uint8_t { none, device, constant, thread, threadgroup };

// "device" -> Space::device; Space::none for any other word.
Space space_named(std::string_view word);
std::string name_of(Space space);

struct Range {
  uint32_t first = 0;
  uint32_t last = 0;
  bool empty() const { return first >= last; }
};

struct Attribute {
  std::string name;      // "buffer", "host_name", "function_constant"
  std::string argument;  // the text between its brackets: "0", "\"copy_f32\""; "" without brackets
  Range tokens;          // with the double brackets
  Position at;
};

struct Parameter {
  std::string name;  // "" if it has none
  std::string type;  // without address space, const, stars, name: "float", "vec<T,4>"
  Space space = Space::none;
  bool pointer = false;
  bool reference = false;
  bool is_const = false;
  std::vector<Attribute> attributes;
  Range tokens;
  Position at;

  const Attribute* attribute(std::string_view wanted) const;
};

// Whether an attribute makes the parameter a position of the thread, not an argument of the call.
bool is_place(const Parameter& one);

struct TemplateParameter {
  std::string kind;  // "typename", "int", "bool", ...
  std::string name;
  bool has_default = false;
};

struct Function {
  std::string name;       // "rms_norm", "operator+"
  std::string scope;      // "", "helpers::", "Block::"
  std::string result;     // "void"
  std::string host_name;  // of a kernel: what the host calls it
  bool kernel = false;
  bool member = false;
  bool definition = false;
  bool specialised = false;  // template <> of a function, by its arguments or by name
  bool given = false;        // = default, = delete
  std::vector<TemplateParameter> templates;
  std::vector<Parameter> parameters;
  std::vector<Attribute> attributes;
  Range tokens;       // from template or the first specifier to behind "}" or ";"
  Range body;         // with the braces; empty for a prototype
  uint32_t head = 0;  // the first token behind template <...>
  uint32_t name_at = 0;
  uint32_t open = 0;  // the bracket that opens the parameters
  Position at;        // of the name
};

// template [[host_name("copy_f32")]] [[kernel]] decltype(copy<float>) copy<float>;
struct Instantiation {
  std::string host_name;
  std::string function;
  std::string arguments;            // "<float,4>"
  std::vector<std::string> values;  // "float", "4"
  Range tokens;
  Position at;
};

struct Global {
  std::string name;
  std::string type;
  Space space = Space::none;
  bool array = false;
  bool initialised = false;
  bool is_constexpr = false;
  bool is_template = false;  // of a variable template, or a specialisation of one
  bool is_member = false;    // the definition of a static member outside its struct
  std::optional<int> function_constant;
  Range tokens;        // with the semicolon
  uint32_t start = 0;  // tokens.first, or that of the template <...> in front
  uint32_t name_at = 0;
  Position at;
};

struct Unit {
  std::shared_ptr<SourceSet> sources;
  uint32_t file = 0;  // the file that was given
  Tokens tokens;
  std::vector<uint32_t> partner;  // of each bracket; its own index for any other token
  std::vector<Function> functions;
  std::vector<Instantiation> instantiations;
  std::vector<Global> globals;
  std::vector<Attribute> attributes;  // all of the source, in order
  bool keeps_unsupported = false;     // attributes that are not supported are among them
  std::set<std::string> fields;       // names of data members of its structs
  std::vector<Range> specialised;     // specialisations of class templates, with template <...>
  std::vector<Range> held;            // types of the members of anonymous structs
  std::map<std::string, std::string> aliases;  // using NAME = TYPE of one word
  std::set<std::string> arrays;                // typedef TYPE NAME[N]

  // The index behind the ">" that closes the "<" at i, or i if it closes nowhere before `end`.
  uint32_t behind_angles(uint32_t i, uint32_t end) const;
  // Of several of that name, a kernel.
  const Function* definition_of(std::string_view name) const;
  // What a name means, through all aliases.
  std::string alias_of(std::string type) const;
};

}  // namespace mlx_kd::msl
