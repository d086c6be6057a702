#include "mlx_kd/shapes/shape_log.h"

#include <algorithm>
#include <fstream>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::shapes {
namespace {

using base::Json;

constexpr uint64_t kMostCalls = uint64_t(1) << 53;
constexpr size_t kShownLines = 5;

// Messages of lower rooms, without the room.
std::string reason_of(const std::exception& error) {
  const std::string text = error.what();
  const size_t room_end = text.find("] ");
  return (room_end == text.npos ? text : text.substr(room_end + 2)).substr(0, 200);
}

std::string text_of(const Json& line, const char* name) {
  const auto found = line.find(name);
  if (found == line.end() || !found->is_string())
    base::misuse("shapes", std::string("it has no text '") + name + "'");
  return found->get<std::string>();
}

uint64_t count_of(const Json& line) {
  const auto found = line.find("count");
  if (found == line.end()) return 1;
  if (!found->is_number_unsigned() || found->get<uint64_t>() < 1 ||
      found->get<uint64_t>() > kMostCalls)
    base::misuse("shapes", "its 'count' is no number of calls");
  return found->get<uint64_t>();
}

// What the signature derives (N, D_OUT) must be what the op derives.
spec::Dims dims_of(const spec::Op& op, const Json& line) {
  const spec::Dims given = spec::Dims::from_json(line.value("shape_signature", Json()));
  spec::Dims own;
  for (const auto& [name, value] : given.items())
    if (std::any_of(op.dims.begin(), op.dims.end(),
                    [&, key = name](const spec::Dim& dim) { return dim.name == key; }))
      own.set(name, value);
  const spec::Dims complete = checked_size(op, own);
  for (const auto& [name, value] : given.items())
    if (!complete.has(name) || complete.at(name) != value)
      base::misuse("shapes", "'" + name.substr(0, 80) + "' does not fit its other sizes");
  return complete;
}

class Reader {
 public:
  explicit Reader(const std::vector<spec::Op>& ops) : ops_(ops) {}

  void take(uint64_t number, const std::string& text) try {
    if (text.size() > kMaxLogLine) base::misuse("shapes", "it is longer than 64 KiB");
    const Json line = base::parse_json(text, "shapes", "it");
    if (!line.is_object()) base::misuse("shapes", "it is not an object");
    const std::string name = text_of(line, "op_name");
    const auto op = std::find_if(ops_.begin(), ops_.end(), [&](auto& o) { return o.name == name; });
    if (op == ops_.end()) return note_unknown(name.substr(0, 80));
    add({name, spec::parse_float_dtype(text_of(line, "dtype")), dims_of(*op, line),
         count_of(line)});
  } catch (const base::Error& error) {
    log_.damaged.push_back({number, reason_of(error)});
  }

  ShapeLog result() {
    std::stable_sort(log_.sizes.begin(), log_.sizes.end(),
                     [](const auto& a, const auto& b) { return a.count > b.count; });
    return std::move(log_);
  }

  size_t size_count() const { return log_.sizes.size(); }

 private:
  void note_unknown(const std::string& name) {
    auto& unknown = log_.unknown;
    if (std::find(unknown.begin(), unknown.end(), name) == unknown.end() && unknown.size() < 100)
      unknown.push_back(name);
  }

  void add(const LoggedSize& size) {
    const std::string key = size.op_name + name_of(size.dtype) + size.dims.text();
    const auto [at, is_new] = places_.try_emplace(key, log_.sizes.size());
    if (is_new)
      log_.sizes.push_back(size);
    else
      log_.sizes[at->second].count += size.count;
  }

  const std::vector<spec::Op>& ops_;
  std::map<std::string, size_t> places_;  // indices into sizes, by op, type and size
  ShapeLog log_;
};

// The next line, without what is beyond kMaxLogLine; false at the end.
bool next_line(std::ifstream& file, std::string& line) {
  line.clear();
  int c = 0;
  auto* bytes = file.rdbuf();
  while ((c = bytes->sbumpc()) != EOF && c != '\n')
    if (line.size() <= kMaxLogLine) line += static_cast<char>(c);
  return c != EOF || !line.empty();
}

}  // namespace

ShapeLog read_shape_log(const std::filesystem::path& path, const std::vector<spec::Op>& ops) {
  std::ifstream file(path, std::ios::binary);
  std::error_code ignored;
  if (!file || std::filesystem::is_directory(path, ignored))
    base::misuse("shapes", "cannot read the shape log " + path.string() + ": check the path");
  Reader reader(ops);
  std::string line;
  for (uint64_t number = 1; next_line(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") != line.npos) reader.take(number, line);
    if (reader.size_count() > kMostSizes)
      base::misuse("shapes", path.string() +
                                 " names more than 65536 different sizes: it is not a log "
                                 "of one program, give a part of it");
  }
  return reader.result();
}

std::vector<LoggedSize> sizes_of(const ShapeLog& log, const std::string& op_name,
                                 const spec::Dtype* dtype) {
  std::vector<LoggedSize> result;
  for (const LoggedSize& size : log.sizes) {
    if (size.op_name != op_name || (dtype && size.dtype != *dtype)) continue;
    const auto same = std::find_if(result.begin(), result.end(),
                                   [&](const auto& r) { return r.dims == size.dims; });
    if (same == result.end())
      result.push_back(size);
    else
      same->count += size.count;
  }
  std::stable_sort(result.begin(), result.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  return result;
}

std::string damage_text(const ShapeLog& log) {
  if (log.damaged.empty()) return "";
  std::string text = log.damaged.size() == 1 ? "line " : "lines ";
  for (size_t i = 0; i < std::min(kShownLines, log.damaged.size()); ++i)
    text += (i ? ", " : "") + std::to_string(log.damaged[i].number);
  if (log.damaged.size() > kShownLines)
    text += " and " + std::to_string(log.damaged.size() - kShownLines) + " more";
  return text + (log.damaged.size() == 1 ? " is" : " are") + " damaged (line " +
         std::to_string(log.damaged[0].number) + ": " + log.damaged[0].why + ")";
}

}  // namespace mlx_kd::shapes
