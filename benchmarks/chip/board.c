/* A bare Cortex-M board: MPS2 with AN386 (M4F) or AN500 (M7), as QEMU emulates it. There is no C
 * runtime: this file starts the processor and talks to the emulator by semihosting. */
#include "platform.h"

enum { SYS_WRITE0 = 0x04, SYS_GET_CMDLINE = 0x15, SYS_EXIT_EXTENDED = 0x20 };
enum { APPLICATION_EXIT = 0x20026 };

extern uint32_t data_begin, data_end, data_source, bss_begin, bss_end, stack_bottom, stack_top;

static int semihosting(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void platform_print(const char *text) { (void)semihosting(SYS_WRITE0, text); }

/* The timer counts down at 25 MHz. Under -icount shift=0 an instruction takes 1 ns. */
static volatile uint32_t *const timer = (volatile uint32_t *)0x40000000u;

uint32_t platform_ticks(void) { return 0xFFFFFFFFu - timer[1]; }

enum { PAINT = 0x5AA5C33C };

uint32_t platform_stack(void)
{
    const uint32_t *word = &stack_bottom;
    while (*word == PAINT) {
        ++word;
    }
    return (uint32_t)((const char *)&stack_top - (const char *)word);
}

uint32_t platform_option(uint32_t index, uint32_t otherwise)
{
    static char line[64];
    const uint32_t block[2] = {(uint32_t)(uintptr_t)line, sizeof line};
    const char *at = line;
    uint32_t k;
    if (semihosting(SYS_GET_CMDLINE, block) != 0) {
        return otherwise;
    }
    for (k = 0; k <= index; ++k) { /* skip the program's name and the options before this one */
        while (*at != '\0' && *at != ' ') {
            ++at;
        }
        while (*at == ' ') {
            ++at;
        }
    }
    if (*at < '0' || *at > '9') {
        return otherwise;
    }
    for (k = 0; *at >= '0' && *at <= '9'; ++at) {
        k = k * 10u + (uint32_t)(*at - '0');
    }
    return k;
}

void *memcpy(void *to, const void *from, __SIZE_TYPE__ n);
void *memset(void *to, int byte, __SIZE_TYPE__ n);

__attribute__((optimize("no-tree-loop-distribute-patterns")))
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n)
{
    char *t = to;
    const char *f = from;
    while (n-- > 0) {
        *t++ = *f++;
    }
    return to;
}

__attribute__((optimize("no-tree-loop-distribute-patterns")))
void *memset(void *to, int byte, __SIZE_TYPE__ n)
{
    char *t = to;
    while (n-- > 0) {
        *t++ = (char)byte;
    }
    return to;
}

static void quit(int failed)
{
    const uint32_t status[] = {APPLICATION_EXIT, (uint32_t)failed};
    (void)semihosting(SYS_EXIT_EXTENDED, status);
}

void reset(void);
void fault(void);

__attribute__((naked)) void reset(void)
{
    __asm__ volatile("ldr r0, =stack_top\n\tmov sp, r0\n\tbl begin");
}

__attribute__((used)) void begin(void);
void begin(void)
{
    uint32_t *word;
    const uint32_t *source = &data_source;
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: turn the floating-point unit on */
    __asm__ volatile("dsb\n\tisb");
    for (word = &data_begin; word < &data_end; ++word) {
        *word = *source++;
    }
    for (word = &bss_begin; word < &bss_end; ++word) {
        *word = 0;
    }
    for (word = &stack_bottom; word < (uint32_t *)__builtin_frame_address(0) - 64; ++word) {
        *word = PAINT;
    }
    timer[2] = 0xFFFFFFFFu; /* reload */
    timer[1] = 0xFFFFFFFFu;
    timer[0] = 1u; /* enable */
    quit(program());
}

void fault(void)
{
    platform_print("fault\n");
    quit(3);
}

__attribute__((section(".vectors"), used)) static const struct {
    const uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {&stack_top,
             {reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault,
              fault, fault, fault}};
