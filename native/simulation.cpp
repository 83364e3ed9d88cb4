#include "simulation.h"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace sparl {
namespace {

// Where the simulator's code, which is C, is left on an error, and with which words.
thread_local std::jmp_buf* way_out = nullptr;
thread_local char last_words[1024];
void (*error_before)(const char*) = nullptr;

void on_error(const char* message) {
  if (way_out) {
    std::snprintf(last_words, sizeof last_words, "%s", message);
    std::longjmp(*way_out, 1);
  }
  if (error_before) error_before(message); // not ours: on another thread
  std::fprintf(stderr, "ERROR: %s\n", message);
  std::exit(EXIT_FAILURE);
}

Simulator caught(Simulator simulator) { // the same, whose errors come to on_error
  static bool installed = false;
  if (!installed) {
    installed = true;
    error_before = *simulator.user_error;
    *simulator.user_error = on_error;
  }
  return simulator;
}

} // namespace

Simulation::Simulation(Simulator simulator, const void* model, void* data, uint32_t steps)
    : later_(*default_pool(), 1,
             [=, simulator = caught(simulator)](uint32_t) { run(simulator, model, data, steps); }) {
}

void Simulation::run(Simulator simulator, const void* model, void* data, uint32_t steps) {
  std::jmp_buf place;
  way_out = &place;
  if (setjmp(place) == 0)
    for (uint32_t i = 0; i < steps; i++) simulator.step(model, data);
  else
    error_ = last_words;
  way_out = nullptr;
}

void Simulation::finish() {
  later_.finish();
  if (!error_.empty()) throw std::runtime_error(error_);
}

} // namespace sparl
