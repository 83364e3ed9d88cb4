/* Learn the pendulum swing-up: 10,000 steps with one update each after the warm-up, then 100
 * episodes without noise. Prints the mean return and a checksum of the whole state.
 *
 * Options: first seed, number of seeds. */
#include "pendulum.h"
#include "platform.h"
#include "print.h"
#include "sparl_chip.h"

#ifndef STEPS
#define STEPS 10000
#endif

static sparl_chip chip;

static float evaluate(uint32_t seed, uint32_t episodes)
{
    pendulum world = {0.0f, 0.0f, seed ^ 0xE7A1u};
    float observation[3], action[1], sum = 0.0f;
    uint32_t episode, step;
    for (episode = 0; episode < episodes; ++episode) {
        float total = 0.0f;
        pendulum_begin(&world, observation);
        for (step = 0; step < PENDULUM_STEPS; ++step) {
            (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLOIT, action);
            total += pendulum_step(&world, action[0], 1.0f, observation);
        }
        sum += total;
    }
    return sum / (float)episodes;
}

static int train(uint32_t seed)
{
    pendulum world = {0.0f, 0.0f, seed};
    float observation[3], action[1];
    uint32_t step, updates = 0;
    sparl_chip_init(&chip, seed);
    pendulum_begin(&world, observation);
    (void)sparl_chip_begin(&chip, observation);
    for (step = 1; step <= STEPS; ++step) {
        const int end = step % PENDULUM_STEPS == 0 ? SPARL_CHIP_TIME_LIMIT : SPARL_CHIP_CONTINUES;
        float reward;
        (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action);
        reward = pendulum_step(&world, action[0], 1.0f, observation);
        (void)sparl_chip_store(&chip, action, reward, observation, end);
        if (end == SPARL_CHIP_TIME_LIMIT) {
            pendulum_begin(&world, observation);
            (void)sparl_chip_begin(&chip, observation);
        }
        switch (sparl_chip_work(&chip, 0xFFFFFFFFu)) {
        case SPARL_CHIP_UPDATED:
            ++updates;
            break;
        case SPARL_CHIP_WAITING:
            break;
        default:
            return 1;
        }
    }
    print_text("seed ");
    print_number(seed);
    print_text(" updates ");
    print_number(updates);
    print_text(" state ");
    print_hex(state_checksum(&chip, sizeof chip));
    return 0;
}

int program(void)
{
    const uint32_t first = platform_option(0, 0), seeds = platform_option(1, 1);
    uint32_t k;
    for (k = 0; k < seeds; ++k) {
        if (train(first + k) != 0) {
            print_text("diverged\n");
            return 1;
        }
        print_text(" return ");
        print_decimal(evaluate(first + k, 100));
        print_text("\n");
    }
    return 0;
}
