// What the head of a kernel file says about tuning it, in comments that the compiler skips:
//
//   #ifndef TG
//   #define TG 256  // knob: 64, 128, 256       a macro that is varied; its own value is the
//   default #endif #define T float  // type                    (in #ifndef) the type that --dtype
//   sets
//   // kd: function softmax_rows                the kernel without --fn; with several such lines,
//                                               what follows each is of that kernel alone
//   // kd: in x (rows, D)                       an input with its shape; ": int32" after the name
//   // kd: in index: int32 (rows) from 0 to D - 1     states a type, "from .. to .." its numbers
//   // kd: out y (rows, D)
//   // kd: grid (rows * TG)                     threads in x, y, z; in C++ "units (rows)"
//   // kd: group (TG)                           in C++ "grain (GRAIN)" and "threads (THREADS)"
//   // kd: where TG * VEC <= D                  a constraint
//   // kd: knob VEC 1, 2, 4                     a template argument, a function constant, or a knob
//                                               of the launch alone
//   // kd: launch TG=64,VEC=1 4096 1 1 64 1 1  grid and group of one setting, for kernels whose
//                                               launches are no expressions: a line for each
//   // kd: body                                 of a metal_kernel: what is before it is its header
//   // kd: scalar eps 1e-5                      a number that is passed at run time
//   // kd: sizes rows, D                        in the order that C++ gets them
//   // kd: batch rows                           fewer of it are parts of the same problem; or none
//   // kd: reference softmax.py                 as --ref
//   // kd: judge close rtol=1e-3 atol=1e-5      as --judge
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::kernels::user {

// "// kd: WORD REST" of a file.
struct HeadLine {
  std::string word, rest;
  std::string place;  // "softmax.metal:3"
};

struct Head {
  std::vector<HeadLine> lines;
  std::vector<UserKnob> macros;
  std::string type_macro;  // "T"; empty: none

  // All lines of that word; the only one, or nullptr. Misuse for a second one.
  std::vector<const HeadLine*> all(const std::string& word) const;
  const HeadLine* only(const std::string& word) const;
};

// Misuse (room tune), with the place, for a word that is not known, a knob without #ifndef or
// values that are not whole numbers.
Head read_head(const std::string& text, const std::string& file);
// Of a head with several lines `function`, leaves the lines in front of all of them and those of
// `function`. Misuse where that is empty.
void take_section(const std::string& function, const std::string& file, Head& head);
// What a TOML file says, as such lines: docs/tune-your-own.md. Misuse with the place.
void add_toml(const std::string& text, const std::string& file, Head& head);

// Trimmed parts of "a, b" at the commas.
std::vector<std::string> parts_of(const std::string& text, char separator = ',');
std::string trimmed(const std::string& text);
// "64, 128" -> {64, 128}. Misuse with the place.
std::vector<int64_t> integers_of(const std::string& text, const std::string& place);
// "x: float16 (rows, D) from 0 to 1".
UserPort port_of(const HeadLine& line);

// The text without comments and strings, lines kept.
std::string without_comments(const std::string& text);
bool has_word(const std::string& text, const std::string& word);
// Whether code without comments has the word outside the lines that give a macro of that name its
// default.
bool is_mentioned(const std::string& code, const std::string& macro);

}  // namespace mlx_kd::kernels::user
