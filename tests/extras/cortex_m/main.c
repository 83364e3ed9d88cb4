/* Runs an exported policy's self-check on a bare Cortex-M4 and prints the bits of its actions.
 *
 * There is no C runtime: this file starts the processor and talks to the emulator by semihosting.
 */
#include <stdint.h>
#include <string.h>

#include "policy.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

static void semihosting(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void print_bits(float value)
{
    char text[] = "00000000\n";
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (int k = 7; k >= 0; --k, bits >>= 4) {
        text[k] = "0123456789abcdef"[bits & 15];
    }
    semihosting(SYS_WRITE0, text);
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: turn the floating-point unit on */
    __asm__ volatile("dsb\n\tisb");

    float largest, action[POLICY_ACTIONS];
    const int failed = policy_self_check(&largest);
    print_bits(largest);
    for (int v = 0; v < POLICY_TEST_VECTORS; ++v) {
        policy_act(policy_test_observations[v], action);
        for (int i = 0; i < POLICY_ACTIONS; ++i) {
            print_bits(action[i]);
        }
    }
    const uint32_t status[] = {APPLICATION_EXIT, (uint32_t)failed};
    semihosting(SYS_EXIT_EXTENDED, status);
}

extern const char stack_top[];
__attribute__((section(".vectors"), used)) static const struct {
    const char *stack;
    void (*start)(void);
} vectors = {stack_top, reset};
