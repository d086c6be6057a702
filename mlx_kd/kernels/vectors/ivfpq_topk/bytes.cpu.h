// Which vectors of a list may have a key up to a limit: a table of bytes has, for each code, how
// many steps it is above the least of its part, rounded down. Bytes are looked up and added for 64
// vectors at a time (AVX512_VBMI), and only the vectors that may be near are looked up in the table
// of floats, so that the result is that of scan_codes.
#pragma once
#include "table.cpu.h"

typedef unsigned char Bytes __attribute__((vector_size(64)));
typedef signed char Signs __attribute__((vector_size(64)));
typedef char Chars __attribute__((vector_size(64)));
typedef unsigned char Sixteen __attribute__((vector_size(16)));

constexpr long kRows = 64, kParts16 = 16;  // vectors, and codes of them, that are taken together
constexpr float kSteps = 254;              // of a key at the limit; sums stay at 255
constexpr float kSlack = 2e-5f;            // more than sums of 129 floats are off by, relatively

struct ByteTable {
  unsigned char at[kMostParts * kCodes] __attribute__((aligned(64)));
  float least, slack, steps;  // of all parts together; of a key; steps in a distance of 1
};

// The distance of a limit from the least key there can be.
KD_INLINE float room_of(const Table& table, const ByteTable& bytes, float limit) {
  return limit + bytes.slack - table.base - bytes.least;
}

// False where floats do not have that many steps.
static bool make_bytes(const Table& table, long count, float limit, ByteTable& bytes) {
  bytes.least = 0;
  for (long s = 0; s < count; ++s) bytes.least += table.least[s];
  const float base = table.base < 0 ? -table.base : table.base;
  bytes.slack = kSlack * (float(count) * table.largest + base);
  const float room = room_of(table, bytes, limit);
  bytes.steps = kSteps / room;
  if (!(room > 0 && room < kInfinity && bytes.steps < kInfinity)) return room <= 0;
  for (long s = 0; s < count; ++s)
    for (long c = 0; c < kCodes; c += kLanes) {
      const Floats x = load(table.at + s * kCodes + c).part[0];
      const Uints steps = __builtin_convertvector((x - table.least[s]) * bytes.steps, Uints);
      Sixteen narrow;
      asm("vpmovusdb %1, %0" : "=v"(narrow) : "v"(steps));
      __builtin_memcpy(bytes.at + s * kCodes + c, &narrow, sizeof narrow);
    }
  return true;
}

KD_INLINE Bytes low_bytes(Bytes a, Bytes b) {
  Bytes result;
  asm("vpunpcklbw %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
  return result;
}
KD_INLINE Bytes high_bytes(Bytes a, Bytes b) {
  Bytes result;
  asm("vpunpckhbw %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
  return result;
}

// In each quarter, byte i of vector j goes to byte j of vector i: each of four turns moves the
// highest bit of a vector's number behind the lowest of a byte's.
KD_INLINE void transpose_bytes(Bytes* x) {
  Bytes y[kParts16];
  KD_UNROLL
  for (int turn = 0; turn < 4; ++turn) {
    const Bytes* const from = turn % 2 ? y : x;
    Bytes* const to = turn % 2 ? x : y;
    KD_UNROLL
    for (int i = 0; i < 8; ++i) {
      to[2 * i] = low_bytes(from[i], from[i + 8]);
      to[2 * i + 1] = high_bytes(from[i], from[i + 8]);
    }
  }
}

// Whether 64 vectors are taken as they lie; then byte i is vector i % 16 * 4 + i / 16, and else
// vector i.
KD_INLINE bool are_whole(const Codes& codes, long rows) {
  return codes.count == kParts16 && rows == kRows;
}

// Codes [part, part + 16) of `rows` vectors from `first` on, code after code.
static void take_codes(const Codes& codes, long first, long rows, long part, Bytes* x) {
  if (are_whole(codes, rows)) {
    __builtin_memcpy(x, codes.row(first), kParts16 * sizeof *x);
    return transpose_bytes(x);
  }
  const unsigned char* const end = codes.row(codes.rows);
  for (long i = 0; i < kRows; ++i) {
    Sixteen own = {};
    const unsigned char* const from = codes.row(first + (i < rows ? i : 0)) + part;
    if (end - from >= long(sizeof own))
      __builtin_memcpy(&own, from, sizeof own);
    else
      __builtin_memcpy(&own, from, end - from);
    __builtin_memcpy((unsigned char*)(x + i % kParts16) + i / kParts16 * 16, &own, sizeof own);
  }
  transpose_bytes(x);
}

KD_INLINE Bytes look_up(const unsigned char* table, Bytes codes) {
  Bytes quarters[4], low = codes, high = codes;
  __builtin_memcpy(quarters, table, sizeof quarters);
  asm("vpermi2b %2, %1, %0" : "+v"(low) : "v"(quarters[0]), "v"(quarters[1]));
  asm("vpermi2b %2, %1, %0" : "+v"(high) : "v"(quarters[2]), "v"(quarters[3]));
  return (Signs)codes < 0 ? high : low;
}

// Bit i: the vector at byte i may be at most `steps` above the least.
static unsigned long near_of(const Codes& codes, const ByteTable& bytes, long first, long rows,
                             unsigned char steps) {
  Bytes sum = {};
  for (long part = 0; part < codes.count; part += kParts16) {
    Bytes x[kParts16];
    take_codes(codes, first, rows, part, x);
    const long count = codes.count - part < kParts16 ? codes.count - part : kParts16;
    for (long s = 0; s < count; ++s) {
      const Bytes own = look_up(bytes.at + (part + s) * kCodes, x[s]);
      asm("vpaddusb %1, %0, %0" : "+v"(sum) : "v"(own));
    }
  }
  const unsigned long valid = rows < kRows ? (1ul << rows) - 1 : ~0ul;
  return __builtin_ia32_ucmpb512_mask((Chars)sum, (Chars)(Bytes{} + steps), 2, valid);
}

static void scan_near(const Codes& codes, const Table& table, const ByteTable& bytes, long from,
                      long to, const PairHeap& heap) {
  for (; from < to; from += kRows) {
    const long rows = to - from < kRows ? to - from : kRows;
    const float room = room_of(table, bytes, heap.keys[0]);
    if (!(room >= 0)) return;
    const float steps = room * bytes.steps;
    unsigned long near =
        near_of(codes, bytes, from, rows, (unsigned char)(steps < kSteps ? steps : kSteps));
    for (; near; near &= near - 1) {
      const long at = __builtin_ctzl(near);
      const long row = from + (are_whole(codes, rows) ? at % 16 * 4 + at / 16 : at);
      const unsigned char* const code = codes.row(row);
      float sum = table.base;
      for (long s = 0; s < codes.count; ++s) sum += table.at[s * kCodes + code[s]];
      heap.offer(sum, row);
    }
  }
}

// scan_codes until there is a limit, and scan_near from there on.
static void scan_bytes(const Codes& codes, const Table& table, long from, long to,
                       const PairHeap& heap, ByteTable& bytes) {
  for (; from < to && !(heap.keys[0] < kInfinity); from += kRows)
    scan_codes(codes, table, from, from + kRows < to ? from + kRows : to, heap);
  if (from >= to) return;
  if (make_bytes(table, codes.count, heap.keys[0], bytes))
    scan_near(codes, table, bytes, from, to, heap);
  else
    scan_codes(codes, table, from, to, heap);
}
