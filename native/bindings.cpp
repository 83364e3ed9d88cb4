// The Python module, with the bindings of instruction sets, the thread pool, pending work, the
// search for positions and benchmarks. Only the files bind* depend on Python.
#include "bench.h"
#include "bindings.h"
#include "dispatch.h"
#include "pattern_blocks.h"
#include "subnormals.h"
#include <cstdlib>

using namespace nb::literals;
using namespace sparl;

namespace {

nb::tuple bind_find_sorted(ReadOnlyArray ascending, ReadOnlyArray needles) {
  check_axes(ascending, "find_sorted: ascending", 1);
  check_axes(needles, "find_sorted: needles", 1);
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
    throw std::invalid_argument("bench: batch is " + std::to_string(batch) +
                                " but must be in [1, 2^28)");
  if (kernel == "forward") return Timed::forward;
  if (kernel == "input gradient") return Timed::input_gradient;
  if (kernel == "weight gradient") return Timed::weight_gradient;
  throw std::invalid_argument("bench: kernel is '" + kernel +
                              "' but must be forward, input gradient or weight gradient");
}

template <double (*Measure)(const Linear&, Timed, uint32_t, double)>
double bind_seconds(const Linear& layer, const std::string& kernel, uint32_t batch, double least) {
  const Timed what = timed(kernel, batch);
  nb::gil_scoped_release release;
  return Measure(layer, what, batch, least);
}

} // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false); // the interpreter need not destroy all objects at exit
  m.doc() = "Kernels for sparse networks and replay buffers. Use sparl's Python modules instead.";
  const char* forced = std::getenv("SPARL_ISA");
  if (forced && *forced) {
    try {
      use_kernels(forced);
    } catch (const std::exception& error) {
      throw nb::import_error((std::string("SPARL_ISA: ") + error.what()).c_str());
    }
  }

  m.attr("flushes_subnormals") = kFlushesSubnormals;
  m.def("isa", [] { return std::string(kernels().name); }, "Return the instruction set in use.");
  m.def(
      "available_isas",
      [] {
        std::vector<std::string> names;
        for (const Kernels* table : available_kernels()) names.emplace_back(table->name);
        return names;
      },
      "Return the instruction sets of this build that this processor supports, fastest last.");
  m.def("use_isa", &use_kernels, "name"_a,
        "Use an instruction set; raises ValueError if it is not available.\n\n"
        "No other thread may compute during the call.");

  nb::class_<ThreadPool>(m, "Pool",
                         "A thread pool, which can be passed to functions that compute.\n\n"
                         "Without a pool, these functions use only the calling thread.")
      .def(
          nb::new_([](uint32_t threads) {
            if (threads == 0 || threads > 1024)
              throw std::invalid_argument("pool: threads is " + std::to_string(threads) +
                                          " but must be in [1, 1024]");
            return std::make_shared<ThreadPool>(threads);
          }),
          "threads"_a,
          "Create a pool; the number of threads includes the caller's and does not affect results.")
      .def_prop_ro("threads", &ThreadPool::threads);

  nb::class_<BoundPendingWork>(m, "PendingWork",
                               "Work that may be unfinished; it keeps the objects that it uses "
                               "alive until `finish` returns.")
      .def("finish", &BoundPendingWork::finish,
           "Complete the work with the help of the calling thread; the destructor calls this too.");

  m.def("find_sorted", &bind_find_sorted, "ascending"_a, "needles"_a,
        nb::sig("def find_sorted(ascending: " POSITIONS ", needles: " POSITIONS
                ") -> tuple[" POSITIONS ", " FLAGS "]"),
        "Find needles in an ascending array, in nearly linear time if the needles ascend too.\n\n"
        "Both arrays are int64. Returns for each needle the index of the first entry that is not\n"
        "less (the length of the array if there is none), int64 [n], and whether this entry is\n"
        "equal, bool [n].");

  m.def("seconds_per_call", &bind_seconds<seconds_per_call>, "layer"_a, "kernel"_a, "batch"_a,
        "least"_a,
        "Return the mean duration of one call of a kernel on one thread, in seconds.\n\n"
        "kernel: forward, input gradient or weight gradient. batch: number of samples.\n"
        "least: minimum duration of the measurement in seconds.");
  m.def("seconds_of_loads", &bind_seconds<seconds_of_loads>, "layer"_a, "kernel"_a, "batch"_a,
        "least"_a,
        "Return the time that a kernel's loads of activations alone take, in seconds per call.\n\n"
        "The arguments are those of seconds_per_call.");
  m.def("multiply_add_peak", &multiply_add_peak, "least"_a,
        nb::call_guard<nb::gil_scoped_release>(),
        "Return the multiply-adds per second of one core with the instruction set in use.\n\n"
        "least: minimum duration of the measurement in seconds.");

  bind_network(m);
  bind_algorithms(m);
  bind_replay(m);
}
