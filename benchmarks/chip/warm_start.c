/* Continue to learn, on the device, from an agent that was trained on a PC, after the motor of the
 * pendulum has lost part of its strength. Prints mean returns over 100 episodes: with the full
 * motor; with the weak one; after 5,000 steps with learning; after as many steps without it.
 *
 * Options: seed, strength of the motor in percent. */
#include "episodes.h"
#include "print.h"
#include "sparl_chip_state.h"

enum { STEPS = 5000, EPISODES = 100 };

static sparl_chip chip;

static void report(const char *what, uint32_t seed, float strength)
{
    print_text(what);
    print_decimal(evaluate(&chip, seed, EPISODES, strength));
}

int program(void)
{
    const uint32_t seed = platform_option(0, 0);
    const float weak = (float)platform_option(1, 60) / 100.0f;
    int learn;
    for (learn = 1; learn >= 0; --learn) {
        int32_t updates;
        if (sparl_chip_load(&chip, sparl_chip_read_state, 0) != SPARL_CHIP_OK) {
            print_text("the state cannot be loaded\n");
            return 1;
        }
        if (learn) {
            report("full ", seed, 1.0f);
            report(" weak ", seed, weak);
        }
        updates = run_episodes(&chip, seed, SPARL_CHIP_WARMUP + STEPS, weak, learn);
        if (updates < 0) {
            print_text("diverged\n");
            return 1;
        }
        report(learn ? " learned " : " control ", seed, weak);
        if (learn) {
            print_text(" updates ");
            print_number((uint32_t)updates);
        }
    }
    print_text("\n");
    return 0;
}
