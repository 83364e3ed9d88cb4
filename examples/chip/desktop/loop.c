/* A simulation loop on a PC: an agent learns to bring a point on a line to 0. The configuration
 * has one observation and one action; see the Makefile. SPDX-License-Identifier: MIT-0 */
#include <stdio.h>

#include "sparl_chip.h"

static sparl_chip chip;

int main(void)
{
    float position[1] = {0.9f}, action[1], sum = 0.0f;
    sparl_chip_init(&chip, 1u);
    (void)sparl_chip_begin(&chip, position);
    for (int step = 1; step <= 2000; ++step) {
        const int end = step % 40 == 0 ? SPARL_CHIP_TIME_LIMIT : SPARL_CHIP_CONTINUES;
        (void)sparl_chip_act(&chip, position, SPARL_CHIP_EXPLORE, action);
        position[0] += 0.2f * action[0];
        sum -= position[0] * position[0];
        (void)sparl_chip_store(&chip, action, -position[0] * position[0], position, end);
        while (sparl_chip_work(&chip, 1u) == SPARL_CHIP_OK) {
            /* one update per step; a real-time program checks its clock here */
        }
        if (end == SPARL_CHIP_TIME_LIMIT) {
            printf("steps %d, return of the last episode %.2f\n", step, (double)sum);
            position[0] = step % 80 == 0 ? 0.9f : -0.9f;
            sum = 0.0f;
            (void)sparl_chip_begin(&chip, position);
        }
    }
    return 0;
}
