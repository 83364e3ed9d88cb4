#include "dispatch.h"
#include <stdexcept>

namespace sparl {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> tables{kernels_portable()};
#if defined(__x86_64__)
  if (kernels_avx2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    tables.push_back(kernels_avx2());
  if (kernels_avx512() && __builtin_cpu_supports("avx512f")) tables.push_back(kernels_avx512());
#endif
  if (kernels_neon()) tables.push_back(kernels_neon());
  return tables;
}

static const Kernels*& current() {
  static const Kernels* table = available_kernels().back();
  return table;
}

const Kernels& kernels() { return *current(); }

void use_kernels(const std::string& name) {
  std::string known;
  for (const Kernels* table : available_kernels()) {
    if (name == table->name) {
      current() = table;
      return;
    }
    known += std::string(known.empty() ? "" : ", ") + table->name;
  }
  throw std::invalid_argument("instruction set '" + name + "' is not available; choose one of " +
                              known);
}

} // namespace sparl
