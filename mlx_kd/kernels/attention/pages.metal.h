// Where the keys of pages are: (P, heads, L, width) by a table of pages.
#pragma once

// The row of the pages that key j is in; -1 where it has no page.
inline long row_of(const device int* table, int j, int pages, int heads, int head, int length) {
  const int page = table[j / length];
  if (page < 0 || page >= pages) return -1;
  return (long(page) * long(heads) + long(head)) * long(length) + long(j % length);
}
