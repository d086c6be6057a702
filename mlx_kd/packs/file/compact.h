// The entries of a file: what many of them have in common is written once.
//
//   common   a list of objects. The entry {"common": 3, ...} has the members of common[3] as well;
//            where it has a member of that name itself, its own counts.
//   sources  {source_hash: text}. An entry without `source` has the text of its source_hash.
//
// A Metal entry is written whole, since zmlx.kd reads `entries` and nothing else.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mlx_kd/packs/entry.h"

namespace mlx_kd::packs {

inline constexpr uint64_t kMostOpenBytes = uint64_t(512) << 20;

struct Compact {
  base::Json common = base::Json::array();
  std::vector<std::string> entries;  // canonical JSON: as values they would take ten times as much
  base::Json sources = base::Json::object();
  uint64_t open_bytes = 0;  // what opening out adds to the entries, as text
};

class Compactor {
 public:
  void add(const Entry& entry);
  Compact take() { return std::move(result_); }

 private:
  void move_shared(base::Json& json);
  bool list_source(const Entry& entry);

  Compact result_;
  std::map<std::string, size_t> places_;          // of what is shared, by its text
  std::map<std::string, std::string> languages_;  // of the listed sources
};

// Opens the entries of one file out.
class Opener {
 public:
  // `root` is the file and outlives this. Misuse if its `common` or `sources` has another type.
  explicit Opener(const base::Json& root, uint64_t most_bytes = kMostOpenBytes);

  // The whole entry of `raw`. Misuse if it refers to what is not there, its source does not have
  // the hash that it is listed by, or opening the entries so far added more than most_bytes of
  // text.
  base::Json open(base::Json raw);

 private:
  void add_common(base::Json& entry);
  void add_source(base::Json& entry);
  void count(size_t bytes);

  const base::Json* common_;
  const base::Json* sources_;
  std::vector<size_t> common_bytes_;  // as text
  uint64_t bytes_ = 0, most_bytes_;   // added as text by opening out, so far and at most
  std::set<std::pair<std::string, std::string>> checked_;  // language and hash of a source
};

}  // namespace mlx_kd::packs
