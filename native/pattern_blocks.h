// The immutable blocks of a connectivity pattern and of its transpose.
#pragma once
#include "kernels.h"
#include <vector>

namespace sparl {

struct PatternBlocks {
  uint32_t rows = 0, columns = 0;
  std::vector<Block> block;
  std::vector<uint32_t> group;
  std::vector<uint32_t> column;

  uint32_t block_count() const { return uint32_t(block.size()) - 1; }
  BlocksView view() const {
    return {rows, block_count(), block.data(), group.data(), column.data()};
  }
};

// The connections of one layer. Canonical order is row-major: position = output n_in + input.
struct Layer {
  uint32_t n_in, n_out;
  uint32_t first_gradient_input;          // index of the first input that has a gradient
  PatternBlocks forward;                  // rows are outputs
  PatternBlocks transposed;               // rows are inputs from first_gradient_input on
  std::vector<uint32_t> canonical_index;  // [N], by kernel slot
  std::vector<uint32_t> transposed_slots; // kernel slot of each transposed slot

  // positions: [count], strictly ascending, each less than n_in n_out. Throws std::invalid_argument
  // if the positions are invalid, or if the number of inputs, outputs or connections is out of
  // range.
  Layer(uint32_t n_in, uint32_t n_out, const int64_t* positions, size_t count,
        uint32_t first_gradient_input);

  size_t connections() const { return canonical_index.size(); }
};

// Finds for each needle the index of the first entry of `ascending` that is not less than the
// needle (`size` if there is none), and whether that entry equals the needle. The search takes
// nearly linear time if the needles ascend too.
void find_sorted(const int64_t* ascending, size_t size, const int64_t* needles, size_t count,
                 int64_t* index, bool* found);

} // namespace sparl
