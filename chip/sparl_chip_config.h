/* The configuration of sparl_chip: sizes and hyperparameters, fixed at compile time.
 * SPDX-License-Identifier: MIT-0
 *
 * Copy this file into the program and change it. `sparl export --format c-trainer` writes one for
 * an environment or for a trained agent. These are the settings of benchmarks/chip/pendulum.c.
 */
#ifndef SPARL_CHIP_CONFIG_H
#define SPARL_CHIP_CONFIG_H

/* The task and the networks. Observations are best scaled to a range of about -1 to 1. */
#define SPARL_CHIP_OBSERVATIONS 3 /* numbers in an observation */
#define SPARL_CHIP_ACTIONS 1      /* numbers in an action, each in [-1, 1] */
#define SPARL_CHIP_HIDDEN_1 64    /* units of the first hidden layer */
#define SPARL_CHIP_HIDDEN_2 64    /* units of the second hidden layer */

/* SPARL_CHIP_TD3, SPARL_CHIP_STATIC_TD3, SPARL_CHIP_SET_TD3 or SPARL_CHIP_DS_TD3 */
#ifndef SPARL_CHIP_METHOD
#define SPARL_CHIP_METHOD SPARL_CHIP_SET_TD3
#endif

/* Connections of each layer, unless the method is SPARL_CHIP_TD3. These are 80 % sparse networks:
 * the Erdos-Renyi rule over all layers, which makes the small first and last layers dense. */
#if SPARL_CHIP_METHOD != SPARL_CHIP_TD3
#define SPARL_CHIP_ACTOR_CONNECTIONS_1 192
#define SPARL_CHIP_ACTOR_CONNECTIONS_2 615
#define SPARL_CHIP_ACTOR_CONNECTIONS_3 64
#define SPARL_CHIP_CRITIC_CONNECTIONS_1 256
#define SPARL_CHIP_CRITIC_CONNECTIONS_2 564
#define SPARL_CHIP_CRITIC_CONNECTIONS_3 64
#endif

/* Memory. Capacity and warm-up are counted in slots: a transition takes one slot, and a state
 * in which a time limit ends an episode takes another. With int8, the capacity must be at least 5
 * times the warm-up. */
#ifndef SPARL_CHIP_REPLAY
#define SPARL_CHIP_REPLAY SPARL_CHIP_INT8 /* SPARL_CHIP_FLOAT32, SPARL_CHIP_FLOAT16 or this */
#endif
#ifndef SPARL_CHIP_MOMENTS
#define SPARL_CHIP_MOMENTS SPARL_CHIP_FLOAT32 /* or SPARL_CHIP_BFLOAT16 */
#endif
#define SPARL_CHIP_CAPACITY 10000
#define SPARL_CHIP_WARMUP 1000      /* slots filled before learning begins */
#define SPARL_CHIP_RANDOM_WARMUP 1  /* 1: random actions during the warm-up; 0: the policy's */
#define SPARL_CHIP_HEADROOM 1.3f    /* int8: ranges of the warm-up are widened by this factor */
#define SPARL_CHIP_BATCH 64         /* transitions per update */

/* TD3 */
#define SPARL_CHIP_GAMMA 0.99f
#define SPARL_CHIP_TAU 0.02f
#define SPARL_CHIP_POLICY_DELAY 2 /* updates of the critics per update of the actor */
#define SPARL_CHIP_EXPLORATION_NOISE 0.1f
#define SPARL_CHIP_TARGET_NOISE 0.2f
#define SPARL_CHIP_NOISE_CLIP 0.5f

/* Adam */
#define SPARL_CHIP_LEARNING_RATE 1e-3f
#define SPARL_CHIP_WEIGHT_DECAY 0.0f /* L2 coefficient, added to the gradient */

/* Topology updates, SET and DS. The period must be a multiple of the policy delay. */
#define SPARL_CHIP_REWIRE_EVERY 1000    /* updates; SET: those of the network, DS: of the agent */
#define SPARL_CHIP_REWIRE_FRACTION 0.05f /* of a layer's (DS: live) connections to move; < 1 */
#define SPARL_CHIP_REWIRE_LAST 9000 /* no topology update after this update of the agent; 0: no end.
                                     * SET: until then, the fraction decays to 0 along a cosine. */

#endif
