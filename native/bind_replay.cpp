// Bindings of n-step windows over the ring of a replay buffer, and of random window starts.
#include "bindings.h"
#include "n_step_windows.h"
#include <numpy/random/bitgen.h>

using namespace nb::literals;

extern "C" { // from NumPy's random library
void random_bounded_uint64_fill(bitgen_t*, uint64_t low, uint64_t range, intptr_t count,
                                bool masked, uint64_t* to);
}

namespace sparl {
namespace {

bitgen_t* bits_of(const nb::object& bit_generator) {
  nb::object capsule = bit_generator.attr("capsule");
  auto* bits = static_cast<bitgen_t*>(PyCapsule_GetPointer(capsule.ptr(), "BitGenerator"));
  if (!bits) throw nb::python_error();
  return bits;
}

NewArray<int64_t> integers(const nb::object& bit_generator, int64_t below, size_t count) {
  if (below < 1)
    throw std::invalid_argument("integers: below is " + std::to_string(below) +
                                " but must be at least 1");
  bitgen_t* bits = bits_of(bit_generator);
  auto drawn = new_array<int64_t>({count});
  random_bounded_uint64_fill(bits, 0, uint64_t(below) - 1, intptr_t(count), false,
                             reinterpret_cast<uint64_t*>(drawn.data()));
  return drawn;
}

void gather(ReadOnlyArray rows, size_t n_obs, size_t n_act, uint64_t first, size_t size,
            ReadOnlyArray states_of, ReadOnlyArray states, ReadOnlyArray ages, ReadOnlyArray powers,
            nb::tuple arrays, Pool pool) {
  check_axes(rows, "gather_windows: rows", 2);
  if (rows.shape(0) == 0)
    throw std::invalid_argument("gather_windows: rows must have at least one row");
  const size_t capacity = rows.shape(0), stride = rows.shape(1);
  const auto* bytes = checked<uint8_t>(rows, "gather_windows: rows", {capacity, stride});
  check_axes(ages, "gather_windows: ages", 1);
  check_axes(powers, "gather_windows: powers", 1);
  if (powers.shape(0) < 2)
    throw std::invalid_argument("gather_windows: powers has length " +
                                std::to_string(powers.shape(0)) + " but must have at least 2");
  check_axes(states_of, "gather_windows: states_of", 1);
  std::vector<Array> to;
  if (!nb::try_cast(arrays, to)) throw nb::type_error("gather_windows: `to` must contain arrays");
  if (to.size() != 5 && to.size() != 7)
    throw std::invalid_argument("gather_windows: `to` has " + std::to_string(to.size()) +
                                " arrays but must have 5 or 7");
  const size_t count = ages.shape(0), n = powers.shape(0) - 1, states_count = states_of.shape(0);
  const int64_t* from = checked<int64_t>(ages, "gather_windows: ages", {count});
  const bool paths = to.size() == 7;
  const RingView ring{capacity,
                      stride,
                      n_obs,
                      n_act,
                      bytes,
                      first,
                      size,
                      states_count,
                      checked<int64_t>(states_of, "gather_windows: states_of", {states_count}),
                      checked<float>(states, "gather_windows: states", {states_count, n_obs})};
  const WindowArrays into{
      uint32_t(n),
      checked<float>(powers, "gather_windows: powers", {n + 1}),
      checked<float>(to[0], "gather_windows: observation", {count, n_obs}),
      checked<float>(to[1], "gather_windows: action", {count, n_act}),
      checked<float>(to[2], "gather_windows: reward", {count, 1}),
      checked<float>(to[3], "gather_windows: discount", {count, 1}),
      checked<float>(to[4], "gather_windows: reached", {count, n_obs}),
      paths ? checked<float>(to[5], "gather_windows: path", {count, n, n_obs}) : nullptr,
      paths ? checked<float>(to[6], "gather_windows: path discount", {count, n}) : nullptr};
  static const char* const names[] = {"observation", "action", "reward",       "discount",
                                      "reached",     "path",   "path discount"};
  std::vector<Region> written;
  for (size_t i = 0; i < to.size(); i++) written.emplace_back(names[i], to[i]);
  check_disjoint("gather_windows", written,
                 {{"rows", rows},
                  {"states_of", states_of},
                  {"states", states},
                  {"ages", ages},
                  {"powers", powers}});
  const Pool threads = pool_or_caller(std::move(pool));
  nb::gil_scoped_release release;
  gather_windows(*threads, ring, count, from, into);
}

} // namespace

void bind_replay(nb::module_& m) {
  m.def("integers", &integers, "bit_generator"_a, "below"_a, "count"_a,
        nb::sig("def integers(bit_generator: object, below: int, count: int) -> " POSITIONS),
        "Return random integers in [0, below), int64 [count].\n\n"
        "The result is the same as that of NumPy's Generator.integers(below, size=count).");

  m.def("gather_windows", &gather, "rows"_a, "n_obs"_a, "n_act"_a, "first"_a, "size"_a,
        "states_of"_a, "states"_a, "ages"_a, "powers"_a, "to"_a, "pool"_a = nb::none(),
        nb::sig("def gather_windows(rows: " BYTES ", n_obs: int, n_act: int, first: int, "
                "size: int, states_of: " POSITIONS ", states: " FLOATS ", ages: " POSITIONS
                ", powers: " FLOATS ", to: tuple[" FLOATS ", ...]" POOL ") -> None"),
        "Gather n-step windows from the ring of a replay buffer.\n\n"
        "rows: uint8 [capacity, bytes of a row]; RingView in n_step_windows.h describes a row.\n"
        "first: number of the oldest transition. size: number of transitions in the ring.\n"
        "states_of: int64 [k], the ascending numbers of the transitions whose next states,\n"
        "`states`, float32 [k, n_obs], are stored separately. ages: int64 [B], the start of each\n"
        "window, counted from 0, the oldest transition. powers: float32 [n + 1], gamma^0 to\n"
        "gamma^n. to: the float32 arrays to write: observation [B, n_obs], action [B, n_act],\n"
        "reward and discount [B, 1], state reached [B, n_obs], and optionally the states on the\n"
        "path [B, n, n_obs] and their discounts [B, n].");
}

} // namespace sparl
