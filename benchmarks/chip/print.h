/* Printing without a C library, and the checksum of a state. */
#ifndef PRINT_H
#define PRINT_H

#include "platform.h"

static inline void print_text(const char *text) { platform_print(text); }

static inline void print_number(uint32_t x)
{
    char text[11];
    char *at = &text[10];
    *at = '\0';
    do {
        *--at = (char)('0' + x % 10u);
        x /= 10u;
    } while (x > 0);
    print_text(at);
}

static inline void print_hex(uint32_t x)
{
    char text[9];
    int k;
    for (k = 7; k >= 0; --k, x >>= 4) {
        text[k] = "0123456789abcdef"[x & 15u];
    }
    text[8] = '\0';
    print_text(text);
}

static inline void print_decimal(float x) /* with two decimals */
{
    const float size = x < 0.0f ? -x : x;
    const uint32_t hundredths = (uint32_t)(size * 100.0f + 0.5f);
    print_text(x < 0.0f ? "-" : "");
    print_number(hundredths / 100u);
    print_text(hundredths % 100u < 10u ? ".0" : ".");
    print_number(hundredths % 100u);
}

/* FNV-1a over all bytes. */
static inline uint32_t state_checksum(const void *memory, uint32_t n)
{
    const uint8_t *bytes = memory;
    uint32_t hash = 2166136261u;
    while (n-- > 0) {
        hash = (hash ^ *bytes++) * 16777619u;
    }
    return hash;
}

#endif
