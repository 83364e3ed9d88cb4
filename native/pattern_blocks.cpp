#include "pattern_blocks.h"
#include <algorithm>

namespace sparl {
namespace {

// The branches of a group take about as long as three columns of a narrow tile. Therefore, if at
// most kFewColumns columns of a block have a pattern, these columns are stored in the groups of two
// other patterns whose union is that pattern.
constexpr uint32_t kFewColumns = 3;

} // namespace

PatternBlocks build_blocks(uint32_t rows, uint32_t columns, const ConnectionRows& from,
                           std::vector<uint32_t>& slots) {
  struct Entry {
    uint32_t column, pattern;
    uint32_t name[kBlockRows];
  };
  PatternBlocks out;
  out.rows = rows;
  out.columns = columns;
  slots.clear();
  slots.reserve(from.column.size());
  std::vector<Entry> entries;
  for (uint32_t first = 0; first < rows; first += kBlockRows) {
    out.block.push_back(
        {uint32_t(out.group.size()), uint32_t(out.column.size()), uint32_t(slots.size())});
    // Merge the block's rows by column, which is possible because the columns of each row ascend.
    const uint32_t height = std::min(kBlockRows, rows - first);
    uint32_t at[kBlockRows];
    for (uint32_t r = 0; r < height; r++) at[r] = from.start[first + r];
    entries.clear();
    while (true) {
      uint32_t column = UINT32_MAX;
      for (uint32_t r = 0; r < height; r++)
        if (at[r] < from.start[first + r + 1]) column = std::min(column, from.column[at[r]]);
      if (column == UINT32_MAX) break;
      Entry entry{column, 0, {}};
      for (uint32_t r = 0; r < height; r++)
        if (at[r] < from.start[first + r + 1] && from.column[at[r]] == column) {
          entry.pattern |= 1u << r;
          entry.name[r] = from.name[at[r]++];
        }
      entries.push_back(entry);
    }
    // The columns of a pattern are stored under the pattern itself or under two parts of it.
    uint32_t count[16] = {}, first_part[16], other_part[16] = {};
    for (const Entry& entry : entries) count[entry.pattern]++;
    for (uint32_t p = 0; p < 16; p++) first_part[p] = p;
    for (const uint32_t p : {15u, 14u, 13u, 11u, 7u, 12u, 10u, 9u, 6u, 5u, 3u}) {
      if (count[p] == 0 || count[p] > kFewColumns) continue;
      const uint32_t lowest = p & (~p + 1);
      first_part[p] = p ^ lowest;
      other_part[p] = lowest;
      count[p ^ lowest] += count[p];
      count[lowest] += count[p];
      count[p] = 0;
    }
    // Sort by pattern with a counting sort, which is stable, so that columns ascend.
    uint32_t column_at[16], slot_at[16];
    uint32_t columns_end = uint32_t(out.column.size()), slots_end = uint32_t(slots.size());
    for (uint32_t pattern = 1; pattern < 16; pattern++) {
      column_at[pattern] = columns_end;
      slot_at[pattern] = slots_end;
      columns_end += count[pattern];
      slots_end += count[pattern] * uint32_t(__builtin_popcount(pattern));
      if (count[pattern]) out.group.push_back(count[pattern] << 4 | pattern);
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
      for (; other_part[rest]; rest = first_part[rest]) place(entry, other_part[rest]);
      place(entry, rest);
    }
  }
  out.block.push_back(
      {uint32_t(out.group.size()), uint32_t(out.column.size()), uint32_t(slots.size())});
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
