// Bindings of target updates and of SAC's squashed Gaussian policy.
#include "bindings.h"
#include "flat.h"
#include "magnitude_target.h"
#include "squashed_normal.h"
#include <optional>
#include <tuple>

using namespace nb::literals;

namespace sparl {
namespace {

void bind_soft_update(Array target, ReadOnlyArray online, double tau, Pool pool) {
  check_axes(target, "soft_update: target", 1);
  const size_t n = target.shape(0);
  float* t = checked<float>(target, "soft_update: target", {n});
  const float* o = checked<float>(online, "soft_update: online", {n});
  check_disjoint("soft_update", {{"target", target}}, {{"online", online}});
  const Pool threads = pool_or_caller(std::move(pool));
  nb::gil_scoped_release release;
  soft_update(*threads, n, t, o, float(tau));
}

std::vector<uint32_t> copied(const std::optional<ReadOnlyArray>& array, const char* name,
                             size_t size) {
  if (!array) return {};
  const uint32_t* data = checked<uint32_t>(*array, name, {size});
  return {data, data + size};
}

void new_target_updater(
    TargetUpdater* self,
    const std::vector<
        std::tuple<std::pair<size_t, size_t>, std::pair<size_t, size_t>,
                   std::optional<ReadOnlyArray>, std::optional<ReadOnlyArray>, size_t>>& pieces) {
  std::vector<TargetUpdater::Piece> list;
  for (const auto& [target, online, source, canonical, budget] : pieces) {
    if (target.first > target.second || online.first > online.second)
      throw std::invalid_argument("TargetUpdater: a piece ends before it starts");
    const size_t n = target.second - target.first;
    list.push_back({target.first, n, online.first, online.second - online.first,
                    copied(source, "TargetUpdater: source", n),
                    copied(canonical, "TargetUpdater: canonical", n), budget});
  }
  new (self) TargetUpdater(std::move(list));
}

BoundPendingWork update_target(TargetUpdater& updater, Array target, ReadOnlyArray online,
                               double tau, Pool pool) {
  check_axes(target, "TargetUpdater.update: target", 1);
  check_axes(online, "TargetUpdater.update: online", 1);
  if (target.shape(0) < updater.target_end() || online.shape(0) < updater.online_end())
    throw std::invalid_argument(
        "TargetUpdater.update: target must have at least " + std::to_string(updater.target_end()) +
        " entries and online at least " + std::to_string(updater.online_end()) +
        ", but they have " + std::to_string(target.shape(0)) + " and " +
        std::to_string(online.shape(0)));
  float* t = checked<float>(target, "TargetUpdater.update: target", {target.shape(0)});
  const float* o = checked<float>(online, "TargetUpdater.update: online", {online.shape(0)});
  check_disjoint("TargetUpdater.update", {{"target", target}}, {{"online", online}});
  const Pool threads = pool_or_caller(std::move(pool));
  const auto begin = [&] {
    nb::gil_scoped_release release;
    return updater.update(*threads, t, o, float(tau));
  };
  return {{nb::find(updater)}, {nb::ndarray<>(target), nb::ndarray<>(online)}, begin()};
}

nb::tuple bind_squashed_normal(ReadOnlyArray heads, ReadOnlyArray noise, bool smooth, Pool pool) {
  check_axes(noise, "squashed_normal: noise", 2);
  const size_t rows = noise.shape(0), n = noise.shape(1);
  const float* h = checked<float>(heads, "squashed_normal: heads", {rows, 2 * n});
  const float* eps = checked<float>(noise, "squashed_normal: noise", {rows, n});
  auto action = new_array({rows, n}), log_density = new_array({rows, 1});
  auto std = new_array({rows, n}), slope = new_array({rows, n});
  const Pool threads = pool_or_caller(std::move(pool));
  {
    nb::gil_scoped_release release;
    squashed_normal(*threads, rows, n, h, eps, smooth, action.data(), log_density.data(),
                    std.data(), slope.data());
  }
  return nb::make_tuple(action, log_density, std, slope);
}

FloatArray bind_squashed_normal_gradient(ReadOnlyArray action, ReadOnlyArray std,
                                         ReadOnlyArray noise, ReadOnlyArray slope,
                                         ReadOnlyArray d_action, double d_log_density) {
  check_axes(action, "squashed_normal_gradient: action", 2);
  const std::vector<size_t> shape{action.shape(0), action.shape(1)};
  const float* a = checked<float>(action, "squashed_normal_gradient: action", shape);
  const float* s = checked<float>(std, "squashed_normal_gradient: std", shape);
  const float* eps = checked<float>(noise, "squashed_normal_gradient: noise", shape);
  const float* dl = checked<float>(slope, "squashed_normal_gradient: slope", shape);
  const float* da = checked<float>(d_action, "squashed_normal_gradient: d_action", shape);
  FloatArray d_heads = new_array({shape[0], 2 * shape[1]});
  float* to = d_heads.data();
  {
    nb::gil_scoped_release release;
    squashed_normal_gradient(shape[0], shape[1], a, s, eps, dl, da, float(d_log_density), to);
  }
  return d_heads;
}

} // namespace

void bind_algorithms(nb::module_& m) {
  m.def("soft_update", &bind_soft_update, "target"_a, "online"_a, "tau"_a, "pool"_a = nb::none(),
        nb::sig("def soft_update(target: " FLOATS ", online: " FLOATS ", tau: float" POOL
                ") -> None"),
        "Compute target += tau * (online - target) in place.\n\n"
        "Both arrays are float32 [n]. If tau is 1, target becomes an exact copy of online.");

  nb::class_<TargetUpdater>(
      m, "TargetUpdater",
      "The soft update of target parameters whose layout differs from the online parameters'.")
      .def("__init__", &new_target_updater, "pieces"_a,
           nb::sig("def __init__(self, pieces: collections.abc.Sequence[tuple[tuple[int, int], "
                   "tuple[int, int], " INDICES " | None, " INDICES " | None, int]]) -> None"),
           "Prepare an update that consists of the given pieces.\n\n"
           "A piece is (start, end) in the target, (start, end) in the online array, source,\n"
           "canonical, budget. If both arrays store the piece in the same order, source and\n"
           "canonical are None, and budget is ignored. Otherwise the piece contains a layer's\n"
           "weights, which the target stores over the union of two patterns: source has the index\n"
           "of each target entry within the online range (the length of that range if there is\n"
           "none), canonical the index of each target entry in canonical order, both uint32, and\n"
           "budget is the largest number of entries that are not set to 0.")
      .def("update", &update_target, "target"_a, "online"_a, "tau"_a, "pool"_a = nb::none(),
           nb::sig("def update(self, target: " FLOATS ", online: " FLOATS ", tau: float" POOL
                   ") -> PendingWork"),
           "Compute target += tau * (online - target) in place; missing online values are 0.\n\n"
           "Then all entries of each layer stored over a union become 0, except its `budget`\n"
           "entries of largest magnitude. The update may be unfinished until finish() of the\n"
           "returned object has been called.");

  m.def("squashed_normal", &bind_squashed_normal, "heads"_a, "noise"_a, "smooth"_a,
        "pool"_a = nb::none(),
        nb::sig("def squashed_normal(heads: " FLOATS ", noise: " FLOATS ", smooth: bool" POOL
                ") -> tuple[" FLOATS ", " FLOATS ", " FLOATS ", " FLOATS "]"),
        "Compute actions of a squashed Gaussian, for SAC; all arrays are float32.\n\n"
        "A row of heads, [B, 2 n], has n means and n unbounded values of log std; noise is\n"
        "[B, n]. log std is bounded to [-5, 2] by a tanh if `smooth`, and clamped to [-20, 2]\n"
        "otherwise. Returns the actions tanh(mean + std noise) [B, n], their log-densities\n"
        "[B, 1], std [B, n], and the slope [B, n], the derivative of the bounded log std with\n"
        "respect to the unbounded one.");

  m.def("squashed_normal_gradient", &bind_squashed_normal_gradient, "action"_a, "std"_a, "noise"_a,
        "slope"_a, "d_action"_a, "d_log_density"_a,
        nb::sig("def squashed_normal_gradient(action: " FLOATS ", std: " FLOATS ", noise: " FLOATS
                ", slope: " FLOATS ", d_action: " FLOATS ", d_log_density: float) -> " FLOATS),
        "Return dL/dheads, float32 [B, 2 n], for a loss L of squashed_normal's outputs.\n\n"
        "All arrays are float32 [B, n]; d_action is dL/daction with the log-densities held\n"
        "fixed. d_log_density is dL/d(log-density), one number for all samples.");
}

} // namespace sparl
