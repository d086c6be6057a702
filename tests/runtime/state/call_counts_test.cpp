// Lookup alone: what a table finds, and that a hit allocates nothing.
#include "mlx_kd/runtime/state/call_counts.h"

#include <cstdlib>
#include <new>

#include "mlx_kd/runtime/pins/table.h"
#include "mlx_kd/runtime/state/process.h"
#include "tests/runtime/pinned.h"

namespace {

thread_local size_t allocations = 0;

// The thread sanitizer ignores MLX's calls of the allocator; through these they would be ours.
#ifndef __SANITIZE_THREAD__
void* counted(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
#endif

}  // namespace

#ifndef __SANITIZE_THREAD__
void* operator new(std::size_t bytes) {
  return counted(bytes);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes ? bytes : 1);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
#endif

namespace mlx_kd::runtime {
namespace {

class Lookup : public Pinned {};

Query query_at(int64_t rows, int64_t width) {
  Query query;
  query.op = find_operator("rmsnorm")->index;
  query.dtype = static_cast<uint8_t>(spec::Dtype::float32);
  query.dims = {rows, width};
  query.params = {1e-6};
  return query;
}

TEST_F(Lookup, FindsEveryOneOfManyPinsAndNothingElse) {
  packs::Pack pack;
  for (int rows = 1; rows <= 40; ++rows)
    for (int d = 1; d <= 50; ++d)
      pack.entries.push_back(marking_entry("rmsnorm", {{"rows", rows}, {"D", 8 * d}}, 1));
  const Table table({pack});
  ASSERT_EQ(table.pins().size(), 2000u);
  for (int rows = 0; rows <= 41; ++rows)
    for (int d = 0; d <= 51; ++d) {
      const bool inside = rows >= 1 && rows <= 40 && d >= 1 && d <= 50;
      const Pin* pin = table.find(query_at(rows, 8 * d));
      ASSERT_EQ(pin != nullptr, inside) << rows << " " << d;
      if (pin) {
        EXPECT_EQ(pin->served->pin, table.index_of(*pin));
        EXPECT_EQ(pin->key.dims[0], rows);
      }
    }
}

TEST_F(Lookup, AHitAllocatesNothing) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "allocations are not counted under the thread sanitizer";
#endif
  pin({marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 1)});
  Ledger& ledger = Ledger::mine();
  const Query query = query_at(2, 8), missed = query_at(3, 8);
  ASSERT_NE(ledger.find(query).served, nullptr);
  ledger.find(missed);
  uint64_t generation = 0;
  const auto table = Process::shared().table(generation);
  const size_t before = allocations;
  EXPECT_NE(ledger.find(query).served, nullptr);
  EXPECT_NE(table->find(query), nullptr);
  EXPECT_EQ(ledger.find(missed).served, nullptr);
  EXPECT_EQ(allocations, before);
  delete std::make_unique<int>(1).release();
  EXPECT_GT(allocations, before);
}

TEST_F(Lookup, AnExactSizeComesBeforeARangeAndARangeBeforeAnySize) {
  auto any = marking_entry("rmsnorm", {}, 1);
  any.loose = true;
  auto ranged = marking_entry("rmsnorm", {{"rows", 4}, {"D", 8}}, 2);
  ranged.rows_range = {2, 6, {2, 6}};
  packs::Pack pack;
  pack.entries = {any, ranged};
  const Table table({pack});
  EXPECT_EQ(table.find(query_at(4, 8))->entry.candidate_id, "rmsnorm_2");
  EXPECT_EQ(find_servable(table, query_at(5, 8))->entry.candidate_id, "rmsnorm_2");
  EXPECT_EQ(find_servable(table, query_at(7, 8))->entry.candidate_id, "rmsnorm_1");
  EXPECT_EQ(table.find(query_at(7, 8)), nullptr);
}

}  // namespace
}  // namespace mlx_kd::runtime
