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
  if (target.ndim() != 1) throw std::invalid_argument("soft_update: target must have one axis");
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
      throw std::invalid_argument("target updater: a piece ends before it starts");
    const size_t n = target.second - target.first;
    list.push_back({target.first, n, online.first, online.second - online.first,
                    copied(source, "target updater: source", n),
                    copied(canonical, "target updater: canonical", n), budget});
  }
  new (self) TargetUpdater(std::move(list));
}

BoundPendingWork update_target(TargetUpdater& updater, Array target, ReadOnlyArray online,
                               double tau, Pool pool) {
  if (target.ndim() != 1 || online.ndim() != 1)
    throw std::invalid_argument("TargetUpdater.update: target and online must have one axis");
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
  if (noise.ndim() != 2) throw std::invalid_argument("squashed_normal: noise must have two axes");
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
  if (action.ndim() != 2)
    throw std::invalid_argument("squashed_normal_gradient: action must have two axes");
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
        "Compute target += tau * (online - target) in place.");

  nb::class_<TargetUpdater>(
      m, "TargetUpdater",
      "A soft update of target parameters that are stored in another layout than the online ones.")
      .def(
          "__init__", &new_target_updater, "pieces"_a,
          nb::sig("def __init__(self, pieces: collections.abc.Sequence[tuple[tuple[int, int], "
                  "tuple[int, int], " INDICES " | None, " INDICES " | None, int]]) -> None"),
          "Plan the update.\n\n"
          "Each piece is (start, end) in the target, (start, end) in the online array, and, for a\n"
          "layer stored over a union of patterns, the slot of each entry in the online piece\n"
          "(the piece's size if there is none), the index of each entry in canonical order, and\n"
          "the largest number of entries that stay non-zero. Other pieces have None, None, 0.")
      .def("update", &update_target, "target"_a, "online"_a, "tau"_a, "pool"_a = nb::none(),
           nb::sig("def update(self, target: " FLOATS ", online: " FLOATS ", tau: float" POOL
                   ") -> PendingWork"),
           "Compute target += tau * (online - target) in place.\n\n"
           "Each layer stored over a union then keeps its budget of entries with the largest\n"
           "magnitudes, and its other entries become 0. The update may be unfinished when this\n"
           "function returns.");

  m.def("squashed_normal", &bind_squashed_normal, "heads"_a, "noise"_a, "smooth"_a,
        "pool"_a = nb::none(),
        nb::sig("def squashed_normal(heads: " FLOATS ", noise: " FLOATS ", smooth: bool" POOL
                ") -> tuple[" FLOATS ", " FLOATS ", " FLOATS ", " FLOATS "]"),
        "Compute actions of a squashed Gaussian for heads [B, 2 n]; all arrays are float32.\n\n"
        "Returns the actions tanh(mean + std noise) [B, n], their log-densities [B, 1], std\n"
        "[B, n] and d log std / d head [B, n]. log std is bounded by a tanh if `smooth`, and\n"
        "clamped otherwise.");

  m.def("squashed_normal_gradient", &bind_squashed_normal_gradient, "action"_a, "std"_a, "noise"_a,
        "slope"_a, "d_action"_a, "d_log_density"_a,
        nb::sig("def squashed_normal_gradient(action: " FLOATS ", std: " FLOATS ", noise: " FLOATS
                ", slope: " FLOATS ", d_action: " FLOATS ", d_log_density: float) -> " FLOATS),
        "Return dL/dheads, float32 [B, 2 n], for a loss L of squashed_normal's outputs.\n\n"
        "All arguments are float32 [B, n] except d_log_density, dL/d(log-density), which is one\n"
        "number for all samples.");
}

} // namespace sparl
