// Pieces of declarations: attributes, parameters, globals, fields.
#pragma once

#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// Appends the attributes of the "[[...]]" at [first, last) to unit.attributes. Misuse for one that
// Metal does not know or that belongs to graphics.
void read_attributes(Unit& unit, uint32_t first, uint32_t last);
std::vector<Attribute> attributes_in(const Unit& unit, Range range);

// "\"copy\"" -> "copy". Misuse if the argument is not a string.
std::string unquoted(const Unit& unit, const Attribute& attribute);

// The parts between the commas at depth 0; none for an empty range.
std::vector<Range> split_list(const Unit& unit, Range range);

TemplateParameter read_template_parameter(const Unit& unit, Range range);
Parameter read_parameter(const Unit& unit, Range range);

// Fills attributes, kernel, result and host_name from the tokens before the name.
void read_function_head(const Unit& unit, Function& function);

// Appends the variables of one declaration.
// `start`: where it begins, with the template <...> in front of it.
void read_globals(Unit& unit, Range range, uint32_t start);
void read_fields(Unit& unit, Range range);

}  // namespace mlx_kd::msl
