/* A task that acts every 20 ms and learns in the time between. SPDX-License-Identifier: MIT-0
 *
 * Replace read_sensors, reward_of and apply_torque by those of your machine. */
#include <freertos/FreeRTOS.h>
#include <freertos/task.h>

#include "sparl_chip.h"

static sparl_chip chip;

static void read_sensors(float *to)
{
    for (int i = 0; i < SPARL_CHIP_OBSERVATIONS; ++i) {
        to[i] = 0.0f;
    }
}

static float reward_of(const float *observation) { return observation[0]; }
static void apply_torque(float torque) { (void)torque; }

static void learn(void *unused)
{
    float observation[SPARL_CHIP_OBSERVATIONS], action[SPARL_CHIP_ACTIONS];
    TickType_t woken = xTaskGetTickCount();
    (void)unused;
    sparl_chip_init(&chip, 1u);
    read_sensors(observation);
    (void)sparl_chip_begin(&chip, observation);
    for (;;) {
        (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action);
        apply_torque(action[0]);
        while (xTaskGetTickCount() - woken < pdMS_TO_TICKS(20) - 1 &&
               sparl_chip_work(&chip, 1u) == SPARL_CHIP_OK) {
        }
        vTaskDelayUntil(&woken, pdMS_TO_TICKS(20));
        read_sensors(observation);
        (void)sparl_chip_store(&chip, action, reward_of(observation), observation,
                               SPARL_CHIP_CONTINUES);
    }
}

void app_main(void)
{
    xTaskCreate(learn, "learn", 4096, NULL, 5, NULL);
}
