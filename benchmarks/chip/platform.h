/* What the benchmark programs need from a machine: host.c and board.c provide it. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdint.h>

void platform_print(const char *text);
uint32_t platform_ticks(void); /* board: 40 instructions each under -icount shift=0; host: 0 */
uint32_t platform_stack(void); /* board: bytes of stack used so far; host: 0 */
uint32_t platform_option(uint32_t index, uint32_t otherwise); /* host: a number of argv */
int program(void);

#endif
