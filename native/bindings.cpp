// The module: instruction sets, the thread pool and benchmarks; only bind*.cpp know Python.
#include "bench.h"
#include "bindings.h"
#include "dispatch.h"
#include "pattern_blocks.h"
#include <cstdlib>

using namespace nb::literals;
using namespace sparl;

namespace {

nb::tuple bind_find_sorted(ReadOnlyArray ascending, ReadOnlyArray needles) {
  if (ascending.ndim() != 1 || needles.ndim() != 1)
    throw std::invalid_argument("find_sorted: arrays must have one axis");
  const size_t size = ascending.shape(0), count = needles.shape(0);
  const int64_t* in = checked<int64_t>(ascending, "find_sorted: ascending", {size});
  const int64_t* of = checked<int64_t>(needles, "find_sorted: needles", {count});
  auto index = new_array<int64_t>({count});
  auto found = new_array<bool>({count});
  find_sorted(in, size, of, count, index.data(), found.data());
  return nb::make_tuple(index, found);
}

Timed timed(const std::string& kernel, uint32_t batch) {
  if (batch == 0 || batch >= 1u << 28)
    throw std::invalid_argument("bench: a batch of " + std::to_string(batch));
  if (kernel == "forward") return Timed::forward;
  if (kernel == "input gradient") return Timed::input_gradient;
  if (kernel == "weight gradient") return Timed::weight_gradient;
  throw std::invalid_argument("bench: kernel '" + kernel +
                              "', must be forward, input gradient or weight gradient");
}

template <double (*Measure)(const Layer&, Timed, uint32_t, double)>
double bind_seconds(const Layer& layer, const std::string& kernel, uint32_t batch, double least) {
  const Timed what = timed(kernel, batch);
  nb::gil_scoped_release release;
  return Measure(layer, what, batch, least);
}

} // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false); // objects alive at exit are the interpreter's business
  m.doc() = "The sparse engine: arrays and loops. Use it through sparl.networks.";
  const char* forced = std::getenv("SPARL_ISA");
  if (forced && *forced) {
    try {
      use_kernels(forced);
    } catch (const std::exception& error) {
      throw nb::import_error(error.what());
    }
  }

  m.def("isa", [] { return std::string(kernels().name); }, "The instruction set in use.");
  m.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (const Kernels* table : available_kernels()) names.emplace_back(table->name);
        return names;
      },
      "Instruction sets that this build and this processor can run, best last.");
  m.def("use_isa", &use_kernels, "name"_a,
        "Force an instruction set; ValueError if it cannot run.");
  m.def("threads", [] { return default_pool()->threads(); }, "Threads of the default pool.");
  m.def(
      "set_threads",
      [](uint32_t count) {
        if (count == 0 || count > 1024)
          throw std::invalid_argument("set_threads: " + std::to_string(count) +
                                      " threads, must be in [1, 1024]");
        set_default_threads(count);
      },
      "count"_a, "Set the number of threads of the default pool; results do not depend on it.");

  nb::class_<ThreadPool>(m, "Pool", "Threads for the functions that it is passed to.")
      .def(nb::new_([](uint32_t threads) {
             if (threads == 0 || threads > 1024)
               throw std::invalid_argument("pool: " + std::to_string(threads) +
                                           " threads, must be in [1, 1024]");
             return std::make_shared<ThreadPool>(threads);
           }),
           "threads"_a, "threads: the caller's included. Results do not depend on their number.")
      .def_prop_ro("threads", &ThreadPool::threads);

  nb::class_<BoundPendingWork>(
      m, "PendingWork", "Work that may not be finished yet; it keeps what it needs until then.")
      .def("finish", &BoundPendingWork::finish,
           "Return when all of it is done, with the caller's help; so does its destructor.");

  m.def("find_sorted", &bind_find_sorted, "ascending"_a, "needles"_a,
        nb::sig("def find_sorted(ascending: " POSITIONS ", needles: " POSITIONS
                ") -> tuple[" POSITIONS ", " FLAGS "]"),
        "For each needle the first entry of `ascending` that is not below it, int64 [n], and\n"
        "whether it is equal, bool [n]. Nearly linear where needles ascend too.");

  m.def("seconds_per_call", &bind_seconds<seconds_per_call>, "layer"_a, "kernel"_a, "batch"_a,
        "least"_a,
        "Mean seconds of one call of a kernel (forward, input gradient, weight gradient) on one\n"
        "thread, over at least so many seconds of calls.");
  m.def("seconds_of_loads", &bind_seconds<seconds_of_loads>, "layer"_a, "kernel"_a, "batch"_a,
        "least"_a, "The same for its loads of activations alone.");
  m.def("multiply_add_peak", &multiply_add_peak, "least"_a,
        nb::call_guard<nb::gil_scoped_release>(),
        "Multiply-adds per second of one core with the instruction set in use.");

  bind_network(m);
  bind_algorithms(m);
  bind_replay(m);
}
