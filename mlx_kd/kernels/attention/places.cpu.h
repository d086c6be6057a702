// The rows of a Block, which the source defines first: rows of the query heads of a key head, head
// by head at each token.
#pragma once

// Of row `r` of the block.
struct Place {
  long head, t;
};
KD_INLINE Place place_of(const Block& block, long r) {
  const long row = block.first + r, t = row / block.group;
  return {block.key_head * block.group + row - t * block.group, t};
}

KD_INLINE long dim(const Block& block, int index) {
  return block.a->dims[index];
}
