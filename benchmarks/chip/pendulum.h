/* The pendulum swing-up of Gymnasium's Pendulum-v1, in single precision, the same on every
 * processor. SPDX-License-Identifier: MIT-0 */
#ifndef PENDULUM_H
#define PENDULUM_H

#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#elif defined(__clang__)
#pragma clang fp contract(off)
#endif

enum { PENDULUM_STEPS = 200 }; /* length of an episode */

typedef struct {
    float angle, speed;
    uint32_t random;
} pendulum;

#define PENDULUM_PI 3.14159265f

/* sin x for x in [-pi, pi], within 1e-6. */
static float pendulum_sin(float x)
{
    const float half = 0.5f * PENDULUM_PI;
    const float y = (x > half) ? (PENDULUM_PI - x) : ((x < -half) ? (-PENDULUM_PI - x) : x);
    const float s = y * y;
    float p = -2.50521084e-8f;
    p = p * s + 2.75573192e-6f;
    p = p * s - 1.98412698e-4f;
    p = p * s + 8.33333333e-3f;
    p = p * s - 1.66666667e-1f;
    return p * s * y + y;
}

static float pendulum_wrap(float x)
{
    return (x > PENDULUM_PI) ? (x - 2.0f * PENDULUM_PI)
                             : ((x < -PENDULUM_PI) ? (x + 2.0f * PENDULUM_PI) : x);
}

static float pendulum_limit(float x, float limit)
{
    return (x > limit) ? limit : ((x < -limit) ? -limit : x);
}

static float pendulum_uniform(pendulum *p) /* in [-1, 1) */
{
    p->random = p->random * 1664525u + 1013904223u;
    return (float)(p->random >> 8) * (1.0f / 8388608.0f) - 1.0f;
}

static void pendulum_observe(const pendulum *p, float observation[3])
{
    observation[0] = pendulum_sin(pendulum_wrap(p->angle + 0.5f * PENDULUM_PI));
    observation[1] = pendulum_sin(p->angle);
    observation[2] = p->speed;
}

static inline void pendulum_begin(pendulum *p, float observation[3])
{
    p->angle = PENDULUM_PI * pendulum_uniform(p);
    p->speed = pendulum_uniform(p);
    pendulum_observe(p, observation);
}

/* Apply an action in [-1, 1] for a step of 0.05 s. `strength` is 1, or less for a weak motor.
 * Returns the reward. */
static inline float pendulum_step(pendulum *p, float action, float strength, float observation[3])
{
    const float torque = pendulum_limit(2.0f * action, 2.0f);
    const float cost =
        p->angle * p->angle + 0.1f * p->speed * p->speed + 0.001f * torque * torque;
    const float acceleration = 15.0f * pendulum_sin(p->angle) + 3.0f * strength * torque;
    p->speed = pendulum_limit(p->speed + 0.05f * acceleration, 8.0f);
    p->angle = pendulum_wrap(p->angle + 0.05f * p->speed);
    pendulum_observe(p, observation);
    return -cost;
}

#endif
