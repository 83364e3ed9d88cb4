// Target updates, and SAC's head.
#include "bindings.h"
#include "flat.h"
#include "magnitude_target.h"
#include "squashed_normal.h"
#include <optional>
#include <tuple>

using namespace nb::literals;

namespace sparl {
namespace {

void bind_follow(Array target, ReadOnlyArray online, double tau, Pool pool) {
  if (target.ndim() != 1) throw std::invalid_argument("follow: target must have one axis");
  const size_t n = target.shape(0);
  float* t = checked<float>(target, "follow: target", {n});
  const float* o = checked<float>(online, "follow: online", {n});
  check_disjoint("follow", {{"target", target}}, {{"online", online}});
  const Pool threads = pool_or_default(std::move(pool));
  nb::gil_scoped_release release;
  follow(*threads, n, t, o, float(tau));
}

std::vector<uint32_t> copied(const std::optional<ReadOnlyArray>& array, const char* name,
                             size_t size) {
  if (!array) return {};
  const uint32_t* data = checked<uint32_t>(*array, name, {size});
  return {data, data + size};
}

void new_follower(Follower* self,
                  const std::vector<std::tuple<std::pair<size_t, size_t>, std::pair<size_t, size_t>,
                                               std::optional<ReadOnlyArray>,
                                               std::optional<ReadOnlyArray>, size_t>>& pieces) {
  std::vector<Follower::Piece> list;
  for (const auto& [target, online, source, canonical, budget] : pieces) {
    if (target.first > target.second || online.first > online.second)
      throw std::invalid_argument("follower: a piece ends before it starts");
    const size_t n = target.second - target.first;
    list.push_back({target.first, n, online.first, online.second - online.first,
                    copied(source, "follower: source", n),
                    copied(canonical, "follower: canonical", n), budget});
  }
  new (self) Follower(std::move(list));
}

BoundPendingWork follower_follow(Follower& follower, Array target, ReadOnlyArray online, double tau,
                                 Pool pool) {
  if (target.ndim() != 1 || online.ndim() != 1)
    throw std::invalid_argument("follow: target and online must have one axis");
  if (target.shape(0) < follower.target_end() || online.shape(0) < follower.online_end())
    throw std::invalid_argument(
        "follow: the pieces reach to " + std::to_string(follower.target_end()) + " and " +
        std::to_string(follower.online_end()) + ", target has " + std::to_string(target.shape(0)) +
        " entries, online " + std::to_string(online.shape(0)));
  float* t = checked<float>(target, "follow: target", {target.shape(0)});
  const float* o = checked<float>(online, "follow: online", {online.shape(0)});
  check_disjoint("follow", {{"target", target}}, {{"online", online}});
  const Pool threads = pool_or_default(std::move(pool));
  const auto begin = [&] {
    nb::gil_scoped_release release;
    return follower.follow(*threads, t, o, float(tau));
  };
  return {{nb::find(follower)}, {nb::ndarray<>(target), nb::ndarray<>(online)}, begin()};
}

nb::tuple bind_squashed_normal(ReadOnlyArray heads, ReadOnlyArray noise, bool smooth, Pool pool) {
  if (noise.ndim() != 2) throw std::invalid_argument("squashed_normal: noise must have two axes");
  const size_t rows = noise.shape(0), n = noise.shape(1);
  const float* h = checked<float>(heads, "squashed_normal: heads", {rows, 2 * n});
  const float* eps = checked<float>(noise, "squashed_normal: noise", {rows, n});
  auto action = new_array({rows, n}), log_density = new_array({rows, 1});
  auto std = new_array({rows, n}), slope = new_array({rows, n});
  const Pool threads = pool_or_default(std::move(pool));
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
  m.def("follow", &bind_follow, "target"_a, "online"_a, "tau"_a, "pool"_a = nb::none(),
        nb::sig("def follow(target: " FLOATS ", online: " FLOATS ", tau: float" POOL ") -> None"),
        "target += tau * (online - target), in place.");

  nb::class_<Follower>(m, "Follower",
                       "Target parameters that follow online ones of another layout.")
      .def("__init__", &new_follower, "pieces"_a,
           nb::sig("def __init__(self, pieces: collections.abc.Sequence[tuple[tuple[int, int], "
                   "tuple[int, int], " INDICES " | None, " INDICES " | None, int]]) -> None"),
           "pieces: (start, end) in the target, (start, end) in the online array, and for a layer\n"
           "over a union of patterns: for each entry its slot in the online piece (their number:\n"
           "none), for each entry its index in canonical order, and the budget.")
      .def("follow", &follower_follow, "target"_a, "online"_a, "tau"_a, "pool"_a = nb::none(),
           nb::sig("def follow(self, target: " FLOATS ", online: " FLOATS ", tau: float" POOL
                   ") -> PendingWork"),
           "target += tau * (online - target), in place; then only the budget largest magnitudes\n"
           "of a layer over a union stay non-zero. It may be pending when this returns.");

  m.def("squashed_normal", &bind_squashed_normal, "heads"_a, "noise"_a, "smooth"_a,
        "pool"_a = nb::none(),
        nb::sig("def squashed_normal(heads: " FLOATS ", noise: " FLOATS ", smooth: bool" POOL
                ") -> tuple[" FLOATS ", " FLOATS ", " FLOATS ", " FLOATS "]"),
        "Actions tanh(mean + std noise) [B, n], their log-densities [B, 1], std and its slope\n"
        "[B, n], for heads [B, 2 n]; float32. smooth: log std by tanh, else clamped.");

  m.def(
      "squashed_normal_gradient", &bind_squashed_normal_gradient, "action"_a, "std"_a, "noise"_a,
      "slope"_a, "d_action"_a, "d_log_density"_a,
      nb::sig("def squashed_normal_gradient(action: " FLOATS ", std: " FLOATS ", noise: " FLOATS
              ", slope: " FLOATS ", d_action: " FLOATS ", d_log_density: float) -> " FLOATS),
      "d L / d heads [B, 2 n] of what squashed_normal gave, all [B, n] but dL/dlog-density, which\n"
      "is one number; float32.");
}

} // namespace sparl
