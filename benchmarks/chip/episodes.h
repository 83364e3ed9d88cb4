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

/* Act for some steps and store the transitions; with `learn`, update once after each of them.
 * Returns the number of updates, or -1 if one diverged. */
static inline int32_t run_episodes(sparl_chip *chip, uint32_t seed, uint32_t steps,
                                   float strength, int learn)
{
    pendulum world = {0.0f, 0.0f, seed};
    float observation[3], action[1];
    uint32_t step;
    int32_t updates = 0;
    pendulum_begin(&world, observation);
    (void)sparl_chip_begin(chip, observation);
    for (step = 1; step <= steps; ++step) {
        const int end = step % PENDULUM_STEPS == 0 ? SPARL_CHIP_TIME_LIMIT : SPARL_CHIP_CONTINUES;
        float reward;
        (void)sparl_chip_act(chip, observation, SPARL_CHIP_EXPLORE, action);
        reward = pendulum_step(&world, action[0], strength, observation);
        (void)sparl_chip_store(chip, action, reward, observation, end);
        if (end == SPARL_CHIP_TIME_LIMIT) {
            pendulum_begin(&world, observation);
            (void)sparl_chip_begin(chip, observation);
        }
        if (learn) {
            const int code = sparl_chip_work(chip, 0xFFFFFFFFu);
            if (code < 0) {
                return -1;
            }
            updates += code == SPARL_CHIP_UPDATED;
        }
    }
    return updates;
}

#endif
