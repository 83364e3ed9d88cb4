#include "platform.h"

#include <stdio.h>
#include <stdlib.h>

static int count;
static char **values;

void platform_print(const char *text) { fputs(text, stdout); }
uint32_t platform_ticks(void) { return 0; }
uint32_t platform_stack(void) { return 0; }

uint32_t platform_option(uint32_t index, uint32_t otherwise)
{
    return (int)index + 1 < count ? (uint32_t)strtoul(values[index + 1], NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
    int failed;
    count = argc;
    values = argv;
    failed = program();
    fflush(stdout);
    return failed;
}
