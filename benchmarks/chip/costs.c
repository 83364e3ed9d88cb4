/* Count the instructions of an action, of updates and of the most expensive slice of each phase,
 * with the board's timer under -icount shift=0: a tick is 40 instructions.
 *
 * Options: number of updates. */
#include "pendulum.h"
#include "platform.h"
#include "print.h"
#include "sparl_chip.h"

static sparl_chip chip;

static uint32_t overhead; /* ticks of an empty measurement */

static uint32_t since(uint32_t begin) { return platform_ticks() - begin - overhead; }

static void fill(void)
{
    pendulum random = {0.0f, 0.0f, 1u};
    float observation[SPARL_CHIP_OBSERVATIONS], action[SPARL_CHIP_ACTIONS];
    uint32_t step, i;
    for (step = 0; chip.replay.warming != 0u || step == 0u; ++step) {
        float reward;
        for (i = 0; i < SPARL_CHIP_OBSERVATIONS; ++i) {
            observation[i] = pendulum_uniform(&random);
        }
        if (step == 0u) {
            (void)sparl_chip_begin(&chip, observation);
        }
        (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action);
        reward = observation[0] * action[0] - observation[1];
        (void)sparl_chip_store(&chip, action, reward, observation, SPARL_CHIP_CONTINUES);
    }
}

static void line(const char *what, uint32_t ticks, uint32_t times)
{
    print_text(what);
    print_text(" ");
    print_number(ticks * 40u / times);
    print_text("\n");
}

int program(void)
{
    static const char *const names[] = {"pick",  "target value", "gradient", "check", "adam",
                                        "drop",  "grow",         "rewire",   "soft"};
    const uint32_t updates = platform_option(0, 20);
    uint32_t worst[9] = {0}, network[9] = {0};
    float observation[SPARL_CHIP_OBSERVATIONS] = {0.1f, 0.2f}, action[SPARL_CHIP_ACTIONS];
    uint32_t k, begin, total = 0;
    begin = platform_ticks();
    overhead = platform_ticks() - begin;
    begin = platform_ticks();
    sparl_chip_init(&chip, 1);
    line("init", since(begin), 1);
    fill();
    begin = platform_ticks();
    for (k = 0; k < 100; ++k) {
        (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action);
    }
    line("act", since(begin), 100);
    begin = platform_ticks();
    (void)sparl_chip_store(&chip, action, 0.0f, observation, SPARL_CHIP_CONTINUES);
    line("store", since(begin), 1);
    while (chip.progress.phase == 0u) { /* int8: convert the warm-up */
        (void)sparl_chip_work(&chip, 1);
    }
    while (sparl_chip_work(&chip, 1000000u) == SPARL_CHIP_OK) {
    }
    for (k = 0; k < updates; ++k) {
        begin = platform_ticks();
        if (sparl_chip_work(&chip, 1000000u) != SPARL_CHIP_UPDATED) {
            return 1;
        }
        total += since(begin);
    }
    line("update", total, updates);
    /* Updates with topology updates of all networks, one slice at a time. */
    chip.updates = SPARL_CHIP_REWIRE_EVERY * SPARL_CHIP_POLICY_DELAY - 4u;
    for (k = 0; k < 8;) {
        const uint32_t phase = chip.progress.phase, of = chip.progress.network;
        uint32_t ticks;
        int result;
        begin = platform_ticks();
        result = sparl_chip_work(&chip, 1);
        ticks = since(begin);
        k += result == SPARL_CHIP_UPDATED ? 1u : 0u;
        if (ticks > worst[phase]) {
            worst[phase] = ticks;
            network[phase] = of;
        }
    }
    for (k = 0; k < 9; ++k) {
        print_text(k == 2 ? (network[k] == 0u ? "actor's " : "critic's ") : "");
        line(names[k], worst[k], 1);
    }
    line("stack (bytes)", platform_stack(), 40);
    return 0;
}
