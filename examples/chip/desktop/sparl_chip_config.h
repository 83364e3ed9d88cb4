/* The configuration of sparl_chip: sizes and hyperparameters, fixed at compile time.
 * SPDX-License-Identifier: MIT-0
 *
 * One observation, one action, 16-16 hidden units, half of the second layer's connections.
 */
#ifndef SPARL_CHIP_CONFIG_H
#define SPARL_CHIP_CONFIG_H

/* The task and the networks. Observations are best scaled to a range of about -1 to 1. */
#define SPARL_CHIP_OBSERVATIONS 1 /* numbers in an observation */
#define SPARL_CHIP_ACTIONS 1      /* numbers in an action, each in [-1, 1] */
#define SPARL_CHIP_HIDDEN_1 16    /* units of the first hidden layer */
#define SPARL_CHIP_HIDDEN_2 16    /* units of the second hidden layer */

/* SPARL_CHIP_TD3, SPARL_CHIP_STATIC_TD3, SPARL_CHIP_SET_TD3 or SPARL_CHIP_DS_TD3 */
#ifndef SPARL_CHIP_METHOD
#define SPARL_CHIP_METHOD SPARL_CHIP_SET_TD3
#endif

/* Connections of each layer, unless the method is SPARL_CHIP_TD3. The
 * small first and last layers are dense. */
#if SPARL_CHIP_METHOD != SPARL_CHIP_TD3
#define SPARL_CHIP_ACTOR_CONNECTIONS_1 16
#define SPARL_CHIP_ACTOR_CONNECTIONS_2 128
#define SPARL_CHIP_ACTOR_CONNECTIONS_3 16
#define SPARL_CHIP_CRITIC_CONNECTIONS_1 32
#define SPARL_CHIP_CRITIC_CONNECTIONS_2 128
#define SPARL_CHIP_CRITIC_CONNECTIONS_3 16
#endif

/* Memory. Capacity and warm-up are counted in slots: a transition takes one slot, and a state
 * in which a time limit ends an episode takes another. With int8, capacity is at least 5 times warm-up. */
#ifndef SPARL_CHIP_REPLAY
#define SPARL_CHIP_REPLAY SPARL_CHIP_INT8 /* SPARL_CHIP_FLOAT32, SPARL_CHIP_FLOAT16 or this */
#endif
#ifndef SPARL_CHIP_MOMENTS
#define SPARL_CHIP_MOMENTS SPARL_CHIP_FLOAT32 /* or SPARL_CHIP_BFLOAT16 */
#endif
#define SPARL_CHIP_CAPACITY 2500
#define SPARL_CHIP_WARMUP 200      /* slots filled before learning begins */
#define SPARL_CHIP_RANDOM_WARMUP 1  /* 1: random actions during the warm-up; 0: the policy's */
#define SPARL_CHIP_HEADROOM 1.3f    /* int8: ranges of the warm-up are widened by this factor */
#define SPARL_CHIP_BATCH 32         /* transitions per update */

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

/* Topology updates, SET and DS. Both periods are multiples of the policy delay. */
#define SPARL_CHIP_REWIRE_EVERY 100    /* updates; SET: those of the network, DS: of the agent */
#define SPARL_CHIP_REWIRE_FRACTION 0.05f /* share of a layer's connections that is moved */
#define SPARL_CHIP_REWIRE_LAST 0 /* no topology update after this update of the agent; 0: no end.
                                     * SET: the fraction decays to 0 at it along a cosine. */

#endif
