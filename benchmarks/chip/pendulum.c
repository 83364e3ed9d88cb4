/* Learn the pendulum swing-up: 10,000 steps with one update each after the warm-up, then 100
 * episodes without noise. Prints the mean return and a checksum of the whole state, which is the
 * same on every processor.
 *
 * Options: first seed, number of seeds, strength of the motor in percent. */
#include "episodes.h"
#include "print.h"

#ifndef STEPS
#define STEPS 10000
#endif
#ifndef EPISODES
#define EPISODES 100
#endif

static sparl_chip chip;

#ifdef SAVING /* link the functions for saving, whose code counts in the memory report */
static uint32_t saved;

static int discard(void *storage, uint32_t offset, const void *from, uint32_t bytes)
{
    (void)storage;
    (void)from;
    saved = offset + bytes;
    return 0;
}

static int read_nothing(void *storage, uint32_t offset, void *to, uint32_t bytes)
{
    (void)storage;
    (void)offset;
    (void)to;
    (void)bytes;
    return 1;
}
#endif

int program(void)
{
    const uint32_t first = platform_option(0, 0), seeds = platform_option(1, 1);
    const float strength = (float)platform_option(2, 100) / 100.0f;
    uint32_t seed;
    for (seed = first; seed < first + seeds; ++seed) {
        training run;
        uint32_t updates = 0;
        sparl_chip_init(&chip, seed);
        begin_training(&run, &chip, seed);
        while (run.steps < STEPS) {
            const int code = train_step(&run, &chip, strength);
            if (code < 0) {
                print_text("diverged\n");
                return 1;
            }
            updates += code == SPARL_CHIP_UPDATED ? 1u : 0u;
        }
        print_text("seed ");
        print_number(seed);
        print_text(" updates ");
        print_number(updates);
        print_text(" state ");
        print_hex(state_checksum(&chip, sizeof chip));
        print_text(" return ");
        print_decimal(evaluate(&chip, seed, EPISODES, strength));
#ifdef SAVING
        (void)sparl_chip_save(&chip, SPARL_CHIP_AGENT_AND_REPLAY, discard, 0);
        (void)sparl_chip_load(&chip, read_nothing, 0);
        print_text(" block ");
        print_number(saved);
        print_text(" stack ");
        print_number(platform_stack());
#endif
        print_text("\n");
    }
    return 0;
}
