/* Updates of an agent of any size from random transitions, as a check that results are the same on
 * every processor. Prints a checksum of the whole state.
 *
 * Options: number of updates. */
#include "pendulum.h"
#include "print.h"
#include "sparl_chip.h"

static sparl_chip chip;

static void observe(pendulum *random, float observation[SPARL_CHIP_OBSERVATIONS])
{
    uint32_t i;
    for (i = 0; i < SPARL_CHIP_OBSERVATIONS; ++i) {
        observation[i] = pendulum_uniform(random);
    }
}

int program(void)
{
    const uint32_t updates = platform_option(0, 1000);
    pendulum random = {0.0f, 0.0f, 1u};
    float observation[SPARL_CHIP_OBSERVATIONS], action[SPARL_CHIP_ACTIONS];
    uint32_t done = 0, step = 0;
    sparl_chip_init(&chip, 1);
    observe(&random, observation);
    (void)sparl_chip_begin(&chip, observation);
    while (done < updates) {
        float reward;
        int end = SPARL_CHIP_CONTINUES, code;
        ++step;
        if (step % 50u == 0u) {
            end = step % 100u == 0u ? SPARL_CHIP_TIME_LIMIT : SPARL_CHIP_TERMINAL;
        }
        (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action);
        reward = observation[0] * action[0] - observation[1];
        observe(&random, observation);
        (void)sparl_chip_store(&chip, action, reward, observation, end);
        if (end != SPARL_CHIP_CONTINUES) {
            observe(&random, observation);
            (void)sparl_chip_begin(&chip, observation);
        }
        code = sparl_chip_work(&chip, 0xFFFFFFFFu);
        if (code < 0) {
            print_text("diverged\n");
            return 1;
        }
        done += code == SPARL_CHIP_UPDATED ? 1u : 0u;
    }
    print_text("updates ");
    print_number(done);
    print_text(" state ");
    print_hex(state_checksum(&chip, sizeof chip));
    print_text("\n");
    return 0;
}
