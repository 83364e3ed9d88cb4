/* Episodes of the pendulum with a sparl_chip. */
#ifndef EPISODES_H
#define EPISODES_H

#include "pendulum.h"
#include "sparl_chip.h"

/* The mean return of noise-free episodes. */
static inline float evaluate(sparl_chip *chip, uint32_t seed, uint32_t episodes, float strength)
{
    pendulum world = {0.0f, 0.0f, seed ^ 0xE7A1u};
    float observation[3], action[1], sum = 0.0f;
    uint32_t episode, step;
    for (episode = 0; episode < episodes; ++episode) {
        float total = 0.0f;
        pendulum_begin(&world, observation);
        for (step = 0; step < PENDULUM_STEPS; ++step) {
            (void)sparl_chip_act(chip, observation, SPARL_CHIP_EXPLOIT, action);
            total += pendulum_step(&world, action[0], strength, observation);
        }
        sum += total;
    }
    return sum / (float)episodes;
}

/* A training in progress. */
typedef struct {
    pendulum world;
    float observation[3];
    uint32_t steps;
} training;

static inline void begin_training(training *run, sparl_chip *chip, uint32_t seed)
{
    run->world.random = seed;
    run->steps = 0;
    pendulum_begin(&run->world, run->observation);
    (void)sparl_chip_begin(chip, run->observation);
}

/* Act for one step, store the transition, and perform one update if the warm-up is over.
 * Returns the code of sparl_chip_work. */
static inline int train_step(training *run, sparl_chip *chip, float strength)
{
    float action[1], reward;
    int end = SPARL_CHIP_CONTINUES;
    ++run->steps;
    if (run->steps % PENDULUM_STEPS == 0) {
        end = SPARL_CHIP_TIME_LIMIT;
    }
    (void)sparl_chip_act(chip, run->observation, SPARL_CHIP_EXPLORE, action);
    reward = pendulum_step(&run->world, action[0], strength, run->observation);
    (void)sparl_chip_store(chip, action, reward, run->observation, end);
    if (end == SPARL_CHIP_TIME_LIMIT) {
        pendulum_begin(&run->world, run->observation);
        (void)sparl_chip_begin(chip, run->observation);
    }
    return sparl_chip_work(chip, 0xFFFFFFFFu);
}

#endif
