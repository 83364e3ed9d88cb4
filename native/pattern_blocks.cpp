#include "pattern_blocks.h"
#include <algorithm>

namespace sparl {
namespace {

constexpr uint32_t kPatterns = 16;

// The branches of a group take about as long as three columns of a narrow tile. Therefore, if at
// most kFewColumns columns of a block have a pattern, these columns are stored in the groups of two
// other patterns whose union is that pattern; one of the two may be divided again.
constexpr uint32_t kFewColumns = 3;

struct Entry { // a column of a block
  uint32_t column, pattern;
  uint32_t name[kBlockRows]; // of the connection in each row of the pattern
};

// Merges the rows of a block by column, which is possible because the columns of each row ascend.
void merge_rows(const ConnectionRows& from, uint32_t first, uint32_t height,
                std::vector<Entry>& entries) {
  uint32_t at[kBlockRows];
  for (uint32_t r = 0; r < height; r++) at[r] = from.start[first + r];
  entries.clear();
  while (true) {
    uint32_t column = UINT32_MAX;
    for (uint32_t r = 0; r < height; r++)
      if (at[r] < from.start[first + r + 1]) column = std::min(column, from.column[at[r]]);
    if (column == UINT32_MAX) return;
    Entry entry{column, 0, {}};
    for (uint32_t r = 0; r < height; r++)
      if (at[r] < from.start[first + r + 1] && from.column[at[r]] == column) {
        entry.pattern |= 1u << r;
        entry.name[r] = from.name[at[r]++];
      }
    entries.push_back(entry);
  }
}

// The patterns under which the columns of a pattern are stored: the pattern itself, or `other` and
// `first`, of which `first` may be divided again.
struct Parts {
  uint32_t count[kPatterns] = {};                   // columns that are stored under a pattern
  uint32_t first[kPatterns], other[kPatterns] = {}; // other: 0 if the pattern is not divided

  explicit Parts(const std::vector<Entry>& entries) {
    for (const Entry& entry : entries) count[entry.pattern]++;
    for (uint32_t p = 0; p < kPatterns; p++) first[p] = p;
    for (const uint32_t p : {15u, 14u, 13u, 11u, 7u, 12u, 10u, 9u, 6u, 5u, 3u}) {
      if (count[p] == 0 || count[p] > kFewColumns) continue;
      const uint32_t lowest = p & (~p + 1);
      first[p] = p ^ lowest;
      other[p] = lowest;
      count[p ^ lowest] += count[p];
      count[lowest] += count[p];
      count[p] = 0;
    }
  }
};

// Appends the columns of a block, sorted by pattern. Counting sort is stable, so the columns of
// each pattern ascend.
void append_sorted(const std::vector<Entry>& entries, const Parts& parts, PatternBlocks& out,
                   std::vector<uint32_t>& slots) {
  uint32_t column_at[kPatterns], slot_at[kPatterns];
  uint32_t columns_end = uint32_t(out.column.size()), slots_end = uint32_t(slots.size());
  for (uint32_t pattern = 1; pattern < kPatterns; pattern++) {
    const uint32_t count = parts.count[pattern];
    column_at[pattern] = columns_end;
    slot_at[pattern] = slots_end;
    columns_end += count;
    slots_end += count * uint32_t(__builtin_popcount(pattern));
    if (count) out.group.push_back(count << 4 | pattern);
  }
  out.column.resize(columns_end);
  slots.resize(slots_end);
  const auto place = [&](const Entry& entry, uint32_t pattern) {
    out.column[column_at[pattern]++] = entry.column;
    for (uint32_t r = 0; r < kBlockRows; r++)
      if (pattern >> r & 1) slots[slot_at[pattern]++] = entry.name[r];
  };
  for (const Entry& entry : entries) {
    uint32_t rest = entry.pattern;
    for (; parts.other[rest]; rest = parts.first[rest]) place(entry, parts.other[rest]);
    place(entry, rest);
  }
}

} // namespace

PatternBlocks build_blocks(uint32_t rows, const ConnectionRows& from,
                           std::vector<uint32_t>& slots) {
  PatternBlocks out;
  out.rows = rows;
  slots.clear();
  slots.reserve(from.column.size());
  const auto begin_block = [&] {
    out.block.push_back(
        {uint32_t(out.group.size()), uint32_t(out.column.size()), uint32_t(slots.size())});
  };
  std::vector<Entry> entries;
  for (uint32_t first = 0; first < rows; first += kBlockRows) {
    begin_block();
    merge_rows(from, first, std::min(kBlockRows, rows - first), entries);
    append_sorted(entries, Parts(entries), out, slots);
  }
  begin_block(); // marks the end
  return out;
}

void find_sorted(const int64_t* ascending, size_t size, const int64_t* needles, size_t count,
                 int64_t* index, bool* found) {
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    size_t first = i && needles[i] < needles[i - 1] ? 0 : at, steps = 0;
    while (first < size && ascending[first] < needles[i] && steps++ < 8) first++;
    if (first < size && ascending[first] < needles[i])
      first = size_t(std::lower_bound(ascending + first, ascending + size, needles[i]) - ascending);
    at = first;
    index[i] = int64_t(at);
    found[i] = at < size && ascending[at] == needles[i];
  }
}

} // namespace sparl
