// A step of a MuJoCo simulator beside what its caller does. MuJoCo's functions are given by their
// addresses: nothing here is linked to it.
#pragma once
#include "thread_pool.h"
#include <cstdint>
#include <string>

namespace sparl {

struct Simulator {
  void (*step)(const void* model, void* data); // mj_step
  void (**user_error)(const char* message);    // mju_user_error, which must not return
};

class Simulation {
 public:
  Simulation(Simulator, const void* model, void* data, uint32_t steps);
  Simulation(const Simulation&) = delete;
  void finish(); // throws std::runtime_error with what the simulator said, if that was its end

 private:
  void run(Simulator, const void* model, void* data, uint32_t steps);

  std::string error_;
  PendingWork later_;
};

} // namespace sparl
