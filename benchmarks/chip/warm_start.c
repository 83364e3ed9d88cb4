/* Continue to learn, on the device, from an agent that was trained on a PC, after the pendulum has
 * changed. After every 500 steps the agent is tested without noise, and the best agent so far is
 * kept as a saved block, as a device would keep it in flash.
 *
 * Prints mean returns over 100 episodes: of the agent as it was trained, in the old task and in the
 * new one; after every 1,000 steps of learning; and of the agent that was kept. Episodes of tests
 * differ from those. An agent that does not learn keeps its second return.
 *
 * Options: seed, strength of the motor in percent. */
#include "episodes.h"
#include "print.h"
#include "sparl_chip_state.h"

enum { STEPS = 5000, EPISODES = 100, REPORT_EVERY = 1000 };
enum { TEST_EVERY = 500, TEST_EPISODES = 20 };

static sparl_chip chip;
static uint8_t kept[SPARL_CHIP_AGENT_BLOCK];

static int write_kept(void *storage, uint32_t offset, const void *from, uint32_t bytes)
{
    (void)storage;
    (void)memcpy(&kept[offset], from, bytes);
    return 0;
}

static int read_kept(void *storage, uint32_t offset, void *to, uint32_t bytes)
{
    (void)storage;
    (void)memcpy(to, &kept[offset], bytes);
    return 0;
}

static float test(uint32_t seed, float strength)
{
    return evaluate(&chip, seed + 1000u, TEST_EPISODES, strength);
}

static void report(const char *what, uint32_t seed, float strength)
{
    print_text(what);
    print_decimal(evaluate(&chip, seed, EPISODES, strength));
}

int program(void)
{
    const uint32_t seed = platform_option(0, 0);
    const float strength = (float)platform_option(1, 60) / 100.0f;
    training run;
    float best;
    uint32_t kept_after = 0;
    if (sparl_chip_load(&chip, sparl_chip_read_state, 0) != SPARL_CHIP_OK) {
        print_text("the state cannot be loaded\n");
        return 1;
    }
    report("before ", seed, 1.0f);
    report(" changed ", seed, strength);
    print_text(" learned");
    best = test(seed, strength);
    (void)sparl_chip_save(&chip, SPARL_CHIP_AGENT, write_kept, 0);
    begin_training(&run, &chip, seed);
    while (run.steps < SPARL_CHIP_WARMUP + STEPS) {
        const int32_t learned = (int32_t)run.steps + 1 - SPARL_CHIP_WARMUP;
        if (train_step(&run, &chip, strength) < 0) {
            print_text("diverged\n");
            return 1;
        }
        if (learned > 0 && learned % TEST_EVERY == 0) {
            const float result = test(seed, strength);
            if (result > best) {
                best = result;
                kept_after = (uint32_t)learned;
                (void)sparl_chip_save(&chip, SPARL_CHIP_AGENT, write_kept, 0);
            }
        }
        if (learned > 0 && learned % REPORT_EVERY == 0) {
            report(" ", seed, strength);
        }
    }
    (void)sparl_chip_load(&chip, read_kept, 0);
    report(" kept ", seed, strength);
    print_text(" of step ");
    print_number(kept_after);
    print_text("\n");
    return 0;
}
