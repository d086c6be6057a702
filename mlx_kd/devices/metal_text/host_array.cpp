#include "mlx_kd/devices/metal_text/host_array.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/random.h"

namespace mlx_kd::devices {
namespace {

const std::map<std::string, size_t>& types() {
  static const std::map<std::string, size_t> list = {
      {"f32", 4}, {"f16", 2}, {"bf16", 2}, {"i8", 1},  {"u8", 1},  {"i16", 2},
      {"u16", 2}, {"i32", 4}, {"u32", 4},  {"i64", 8}, {"u64", 8}, {"bool", 1}};
  return list;
}

// float -> half, to nearest even, by the definition of the format.
uint16_t half_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7e00);
  const float size = std::fabs(value);
  if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00);
  if (size < 0x1p-14f) return static_cast<uint16_t>(sign | std::lrint(size * 0x1p24f));
  const int exponent = std::ilogb(size);
  const auto steps = static_cast<uint32_t>(std::lrint(std::ldexp(size, 10 - exponent)));
  return static_cast<uint16_t>(sign | ((static_cast<uint32_t>(exponent + 14) << 10) + steps));
}

float half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, rest = bits & 1023;
  const float size = exponent == 31  ? (rest ? NAN : INFINITY)
                     : exponent == 0 ? std::ldexp(static_cast<float>(rest), -24)
                                     : std::ldexp(static_cast<float>(1024 + rest), exponent - 25);
  return bits & 0x8000 ? -size : size;
}

uint16_t bfloat_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class T>
double load(const void* data, size_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + i * sizeof(T), sizeof(T));
  return static_cast<double>(value);
}
template <class T>
void store(void* data, size_t i, T value) {
  std::memcpy(static_cast<char*>(data) + i * sizeof(T), &value, sizeof(T));
}

std::vector<std::string> split(const std::string& text, char mark) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '[') - (c == ']');
    if (c == mark && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

[[noreturn]] void misread(const std::string& text, const std::string& why) {
  base::misuse("msl", "'" + text + "': " + why);
}

std::vector<int64_t> parse_shape(const std::string& text, const std::string& whole) {
  if (text.size() < 3 || text.front() != '[' || text.back() != ']')
    misread(whole, "a shape looks like [128,4096]");
  std::vector<int64_t> shape;
  int64_t elements = 1;
  for (const std::string& part : split(text.substr(1, text.size() - 2), ',')) {
    char* end = nullptr;
    const long long size = std::strtoll(part.c_str(), &end, 10);
    if (part.empty() || *end || size < 1) misread(whole, "sizes are whole numbers from 1 on");
    if (size > (int64_t{1} << 40) / elements / 8) misread(whole, "this shape is too large");
    elements *= size;
    shape.push_back(size);
  }
  return shape;
}

HostArray empty_array(const std::string& name, const std::string& type, const std::string& whole) {
  if (name.empty()) misread(whole, "write NAME=...");
  if (!types().count(type))
    misread(whole,
            "'" + type + "' is not a type: use f32, f16, bf16, i8 to i64, u8 to u64 or bool");
  HostArray array;
  array.name = name;
  array.type = type;
  return array;
}

void allocate(HostArray& array) {
  array.words.assign((array.bytes() + 7) / 8, 0);
}

double normal(base::Random& random) {
  const double u = 1.0 - random.uniform(), v = random.uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
}

// FNV-1a, so that values are the same on every machine.
uint64_t name_hash(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

// "40,53" -> {40, 53}; none if it is not a list of numbers.
std::vector<double> numbers_in(const std::string& text) {
  std::vector<double> numbers;
  for (const std::string& part : split(text, ',')) {
    char* end = nullptr;
    numbers.push_back(std::strtod(part.c_str(), &end));
    if (part.empty() || *end) return {};
  }
  return numbers;
}

void fill_bits(HostArray& array, base::Random& random, const std::string& whole) {
  if (array.type[0] != 'i' && array.type[0] != 'u')
    misread(whole, "bits fills integers alone: use rand or uniform");
  for (uint64_t& word : array.words) word = random.next();
}

// The elements alone, row by row, as `kd msl run --save` writes them.
void fill_from(const std::string& path, HostArray& array, const std::string& whole) {
  const std::string bytes = base::read_file(path, "msl", uint64_t(1) << 40);
  if (bytes.size() != array.bytes())
    misread(whole, path + " has " + std::to_string(bytes.size()) + " bytes and the array " +
                       std::to_string(array.bytes()) + ": correct its type or its shape");
  std::memcpy(array.data(), bytes.data(), bytes.size());
}

void fill(HostArray& array, const std::string& how, uint64_t seed, const std::string& whole) {
  if (how[0] == '@') return fill_from(how.substr(1), array, whole);
  base::Random random(seed ^ name_hash(array.name));
  if (how == "bits") return fill_bits(array, random, whole);
  const std::vector<double> numbers = numbers_in(how);
  const bool known = how == "rand" || how == "uniform" || how == "zeros" || how == "ones" ||
                     how == "arange" || !numbers.empty();
  if (!known)
    misread(whole, "fill with rand, uniform, bits, zeros, ones, arange, numbers or @FILE");
  for (size_t i = 0; i < array.elements(); ++i)
    array.set(i, how == "rand"      ? normal(random)
                 : how == "uniform" ? random.uniform()
                 : how == "arange"  ? static_cast<double>(i)
                 : how == "ones"    ? 1.0
                 : !numbers.empty() ? numbers[i % numbers.size()]
                                    : 0.0);
}

}  // namespace

size_t HostArray::elements() const {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

size_t HostArray::bytes() const {
  return elements() * type_bytes(type);
}

double HostArray::at(size_t i) const {
  if (type == "f32") return load<float>(data(), i);
  if (type == "f16") return half_value(static_cast<uint16_t>(load<uint16_t>(data(), i)));
  if (type == "bf16")
    return std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(data(), i)) << 16);
  if (type == "i8") return load<int8_t>(data(), i);
  if (type == "i16") return load<int16_t>(data(), i);
  if (type == "i32") return load<int32_t>(data(), i);
  if (type == "i64") return load<int64_t>(data(), i);
  if (type == "u16") return load<uint16_t>(data(), i);
  if (type == "u32") return load<uint32_t>(data(), i);
  if (type == "u64") return load<uint64_t>(data(), i);
  return load<uint8_t>(data(), i);
}

void HostArray::set(size_t i, double value) {
  const auto whole = static_cast<int64_t>(value);
  if (type == "f32") return store(data(), i, static_cast<float>(value));
  if (type == "f16") return store(data(), i, half_bits(static_cast<float>(value)));
  if (type == "bf16") return store(data(), i, bfloat_bits(static_cast<float>(value)));
  if (type == "bool") return store(data(), i, static_cast<uint8_t>(value != 0));
  switch (type_bytes(type)) {
    case 1:
      return store(data(), i, static_cast<int8_t>(whole));
    case 2:
      return store(data(), i, static_cast<int16_t>(whole));
    case 4:
      return store(data(), i, static_cast<int32_t>(whole));
    default:
      return store(data(), i, whole);
  }
}

HostArray parse_array(const std::string& text, uint64_t seed) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) misread(text, "write NAME=FILL:TYPE:SHAPE");
  const std::vector<std::string> parts = split(text.substr(equals + 1), ':');
  if (parts.size() != 2 && parts.size() != 3) misread(text, "write NAME=FILL:TYPE:SHAPE");
  HostArray array = empty_array(text.substr(0, equals), parts[1], text);
  if (parts.size() == 3) array.shape = parse_shape(parts[2], text);
  allocate(array);
  fill(array, parts[0], seed, text);
  return array;
}

HostArray parse_output(const std::string& text, uint64_t seed) {
  constexpr const char* kForms = "write NAME=TYPE:SHAPE or NAME=FILL:TYPE:SHAPE";
  const size_t equals = text.find('=');
  if (equals == std::string::npos) misread(text, kForms);
  const std::vector<std::string> parts = split(text.substr(equals + 1), ':');
  if (parts.size() == 3) return parse_array(text, seed);
  if (parts.size() != 2) misread(text, kForms);
  HostArray array = empty_array(text.substr(0, equals), parts[0], text);
  array.shape = parse_shape(parts[1], text);
  allocate(array);
  return array;
}

std::string host_type(const std::string& metal_type) {
  static const std::map<std::string, std::string> names = {
      {"float", "f32"},         {"half", "f16"},          {"bfloat", "bf16"},
      {"char", "i8"},           {"uchar", "u8"},          {"short", "i16"},
      {"ushort", "u16"},        {"int", "i32"},           {"uint", "u32"},
      {"long", "i64"},          {"ulong", "u64"},         {"bool", "bool"},
      {"int8_t", "i8"},         {"uint8_t", "u8"},        {"int16_t", "i16"},
      {"uint16_t", "u16"},      {"int32_t", "i32"},       {"uint32_t", "u32"},
      {"int64_t", "i64"},       {"uint64_t", "u64"},      {"float16_t", "f16"},
      {"bfloat16_t", "bf16"},   {"size_t", "u64"},        {"atomic_int", "i32"},
      {"atomic_uint", "u32"},   {"atomic_float", "f32"},  {"atomic<int>", "i32"},
      {"atomic<uint>", "u32"},  {"atomic_ulong", "u64"},  {"atomic_bool", "bool"},
      {"atomic<float>", "f32"}, {"atomic<ulong>", "u64"}, {"unsigned", "u32"},
      {"unsigned int", "u32"}};
  std::string name = metal_type;
  if (name.compare(0, 7, "packed_") == 0) name = name.substr(7);
  if (const auto found = names.find(name); found != names.end()) return found->second;
  if (!name.empty() && name.back() >= '2' && name.back() <= '4') name.pop_back();
  const auto found = names.find(name);
  return found == names.end() ? "" : found->second;
}

size_t type_bytes(const std::string& type) {
  return types().at(type);
}

}  // namespace mlx_kd::devices
