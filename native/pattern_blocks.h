// A connectivity pattern in blocks of rows, in the order in which the kernels process them, and the
// search for positions in it.
#pragma once
#include "kernels.h"
#include <vector>

namespace sparl {

struct PatternBlocks {
  uint32_t rows = 0;
  std::vector<Block> block;
  std::vector<uint32_t> group;
  std::vector<uint32_t> column;

  uint32_t block_count() const { return uint32_t(block.size()) - 1; }
  BlocksView view() const {
    return {rows, block_count(), block.data(), group.data(), column.data()};
  }
};

// The columns and identifiers of connections, by row; row r has those at [start[r], start[r + 1]).
struct ConnectionRows {
  std::vector<uint32_t> start, column, name;
};

// Builds the blocks, and writes the identifiers of the connections to `slots`, in kernel order.
PatternBlocks build_blocks(uint32_t rows, const ConnectionRows&, std::vector<uint32_t>& slots);

// Finds for each needle the index of the first entry of `ascending` that is not less than the
// needle (`size` if there is none), and whether that entry equals the needle. The search takes
// nearly linear time if the needles ascend too.
void find_sorted(const int64_t* ascending, size_t size, const int64_t* needles, size_t count,
                 int64_t* index, bool* found);

} // namespace sparl
