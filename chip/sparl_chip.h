/* sparl_chip: deep reinforcement learning with truly sparse networks, trained on a microcontroller.
 * SPDX-License-Identifier: MIT-0
 *
 * TD3 (Fujimoto et al. 2018) with dense or sparse networks, in C99 without a heap and without an
 * operating system. The only external functions that it calls are memcpy and sqrtf. A program
 * includes this header and compiles sparl_chip.c; sparl_chip_config.h, a file of the program, fixes
 * all sizes and hyperparameters. The header can be included from C++.
 *
 *     static sparl_chip chip;                              all memory: SPARL_CHIP_RAM bytes
 *
 *     sparl_chip_init(&chip, seed);
 *     sparl_chip_begin(&chip, observation);                an episode begins
 *     for (;;) {
 *         sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLORE, action);
 *         ...                                              actuators, sensors, reward
 *         sparl_chip_store(&chip, action, reward, observation, SPARL_CHIP_CONTINUES);
 *         while (time_is_left()) sparl_chip_work(&chip, 1);
 *     }
 *
 * All functions must be called from one thread, or the caller must exclude concurrent calls. No
 * function is recursive, allocates memory or traps; each of them, except sparl_chip_init, returns
 * one of the codes below.
 */
#ifndef SPARL_CHIP_H
#define SPARL_CHIP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* SPARL_CHIP_METHOD */
#define SPARL_CHIP_TD3 0        /* dense networks */
#define SPARL_CHIP_STATIC_TD3 1 /* random sparse networks that never change */
#define SPARL_CHIP_SET_TD3 2    /* drop by magnitude, random growth; targets share the patterns */
#define SPARL_CHIP_DS_TD3 3     /* drop by sign, random growth; targets have their own patterns */

/* SPARL_CHIP_REPLAY and SPARL_CHIP_MOMENTS */
#define SPARL_CHIP_FLOAT32 0
#define SPARL_CHIP_FLOAT16 1  /* replay: IEEE half precision */
#define SPARL_CHIP_INT8 2     /* replay: a scale per feature, learned during the warm-up */
#define SPARL_CHIP_BFLOAT16 3 /* moments: rounded stochastically */

/* Codes that functions return. Negative codes are errors. */
#define SPARL_CHIP_OK 0
#define SPARL_CHIP_UPDATED 1      /* work: an update has been completed */
#define SPARL_CHIP_WAITING 2      /* work: nothing to do until the warm-up is over */
#define SPARL_CHIP_FULL 3         /* store, begin: the oldest slot was overwritten */
#define SPARL_CHIP_DIVERGED (-1)  /* work: a gradient is NaN or beyond +-1e18; update abandoned */
#define SPARL_CHIP_NOT_FINITE (-2) /* an observation, a reward or an action is not finite */
#define SPARL_CHIP_NO_EPISODE (-3) /* store: no episode is in progress; call sparl_chip_begin */
#define SPARL_CHIP_FOREIGN (-4)   /* load: not a block of this library, or of other sizes */
#define SPARL_CHIP_VERSION (-5)   /* load: a block of another version of this library */
#define SPARL_CHIP_DAMAGED (-6)   /* load: the block was altered */
#define SPARL_CHIP_IO (-7)        /* save, load: a call of the caller's function failed */

/* sparl_chip_act: whether to add exploration noise */
#define SPARL_CHIP_EXPLOIT 0
#define SPARL_CHIP_EXPLORE 1

/* sparl_chip_store: what comes after the transition */
#define SPARL_CHIP_CONTINUES 0
#define SPARL_CHIP_TERMINAL 1   /* a terminal state: its value is 0 */
#define SPARL_CHIP_TIME_LIMIT 2 /* the episode was cut: the state reached has a value */

/* sparl_chip_save: what to save */
#define SPARL_CHIP_AGENT 0
#define SPARL_CHIP_AGENT_AND_REPLAY 1

#ifdef SPARL_CHIP_CONFIG
#include SPARL_CHIP_CONFIG
#else
#include "sparl_chip_config.h"
#endif

/* ---- Sizes. The preprocessor computes all of them from the configuration. ---- */

#define SPARL_CHIP_FORMAT 1u /* version of saved blocks */
#define SPARL_CHIP_MAX(a, b) (((a) > (b)) ? (a) : (b))

/* The three networks, actor, critic 1 and critic 2, have three layers each. */
#define SPARL_CHIP_CRITIC_INPUTS (SPARL_CHIP_OBSERVATIONS + SPARL_CHIP_ACTIONS)
#define SPARL_CHIP_ACTOR_SIZE_1 (SPARL_CHIP_OBSERVATIONS * SPARL_CHIP_HIDDEN_1)
#define SPARL_CHIP_ACTOR_SIZE_2 (SPARL_CHIP_HIDDEN_1 * SPARL_CHIP_HIDDEN_2)
#define SPARL_CHIP_ACTOR_SIZE_3 (SPARL_CHIP_HIDDEN_2 * SPARL_CHIP_ACTIONS)
#define SPARL_CHIP_CRITIC_SIZE_1 (SPARL_CHIP_CRITIC_INPUTS * SPARL_CHIP_HIDDEN_1)
#define SPARL_CHIP_CRITIC_SIZE_2 (SPARL_CHIP_HIDDEN_1 * SPARL_CHIP_HIDDEN_2)
#define SPARL_CHIP_CRITIC_SIZE_3 (SPARL_CHIP_HIDDEN_2)

#if SPARL_CHIP_METHOD == SPARL_CHIP_TD3
#define SPARL_CHIP_ACTOR_CONNECTIONS_1 SPARL_CHIP_ACTOR_SIZE_1
#define SPARL_CHIP_ACTOR_CONNECTIONS_2 SPARL_CHIP_ACTOR_SIZE_2
#define SPARL_CHIP_ACTOR_CONNECTIONS_3 SPARL_CHIP_ACTOR_SIZE_3
#define SPARL_CHIP_CRITIC_CONNECTIONS_1 SPARL_CHIP_CRITIC_SIZE_1
#define SPARL_CHIP_CRITIC_CONNECTIONS_2 SPARL_CHIP_CRITIC_SIZE_2
#define SPARL_CHIP_CRITIC_CONNECTIONS_3 SPARL_CHIP_CRITIC_SIZE_3
#endif

/* A network's parameters in one array: weights and biases of layer 1, of layer 2, of layer 3. */
#define SPARL_CHIP_ACTOR_PARAMETERS                                                          \
    (SPARL_CHIP_ACTOR_CONNECTIONS_1 + SPARL_CHIP_HIDDEN_1 + SPARL_CHIP_ACTOR_CONNECTIONS_2 + \
     SPARL_CHIP_HIDDEN_2 + SPARL_CHIP_ACTOR_CONNECTIONS_3 + SPARL_CHIP_ACTIONS)
#define SPARL_CHIP_CRITIC_PARAMETERS                                                           \
    (SPARL_CHIP_CRITIC_CONNECTIONS_1 + SPARL_CHIP_HIDDEN_1 + SPARL_CHIP_CRITIC_CONNECTIONS_2 + \
     SPARL_CHIP_HIDDEN_2 + SPARL_CHIP_CRITIC_CONNECTIONS_3 + 1)
#define SPARL_CHIP_PARAMETERS (SPARL_CHIP_ACTOR_PARAMETERS + 2 * SPARL_CHIP_CRITIC_PARAMETERS)

/* A sparse layer stores a column (the input) per connection, a row start per output, and the end of
 * the last row. A layer with all connections stores none of these. */
#define SPARL_CHIP_COLUMNS_OF(connections, size) (((connections) < (size)) ? (connections) : 0)
#define SPARL_CHIP_ROWS_OF(connections, size, outputs) \
    (((connections) < (size)) ? ((outputs) + 1) : 0)
#define SPARL_CHIP_ACTOR_COLUMNS                                                       \
    (SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_1, SPARL_CHIP_ACTOR_SIZE_1) +  \
     SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_2, SPARL_CHIP_ACTOR_SIZE_2) +  \
     SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_3, SPARL_CHIP_ACTOR_SIZE_3))
#define SPARL_CHIP_CRITIC_COLUMNS                                                       \
    (SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_1, SPARL_CHIP_CRITIC_SIZE_1) + \
     SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_2, SPARL_CHIP_CRITIC_SIZE_2) + \
     SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_3, SPARL_CHIP_CRITIC_SIZE_3))
#define SPARL_CHIP_ACTOR_ROWS                                                       \
    (SPARL_CHIP_ROWS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_1, SPARL_CHIP_ACTOR_SIZE_1,    \
                        SPARL_CHIP_HIDDEN_1) +                                      \
     SPARL_CHIP_ROWS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_2, SPARL_CHIP_ACTOR_SIZE_2,    \
                        SPARL_CHIP_HIDDEN_2) +                                      \
     SPARL_CHIP_ROWS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_3, SPARL_CHIP_ACTOR_SIZE_3,    \
                        SPARL_CHIP_ACTIONS))
#define SPARL_CHIP_CRITIC_ROWS                                                      \
    (SPARL_CHIP_ROWS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_1, SPARL_CHIP_CRITIC_SIZE_1,  \
                        SPARL_CHIP_HIDDEN_1) +                                      \
     SPARL_CHIP_ROWS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_2, SPARL_CHIP_CRITIC_SIZE_2,  \
                        SPARL_CHIP_HIDDEN_2) +                                      \
     SPARL_CHIP_ROWS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_3, SPARL_CHIP_CRITIC_SIZE_3, 1))
#define SPARL_CHIP_COLUMNS (SPARL_CHIP_ACTOR_COLUMNS + 2 * SPARL_CHIP_CRITIC_COLUMNS)
#define SPARL_CHIP_ROWS (SPARL_CHIP_ACTOR_ROWS + 2 * SPARL_CHIP_CRITIC_ROWS)

/* A column has 8 bits if no layer has more than 256 inputs. */
#if (SPARL_CHIP_CRITIC_INPUTS <= 256) && (SPARL_CHIP_HIDDEN_1 <= 256) && \
    (SPARL_CHIP_HIDDEN_2 <= 256)
#define SPARL_CHIP_COLUMN_BYTES 1
typedef uint8_t sparl_chip_column;
#else
#define SPARL_CHIP_COLUMN_BYTES 2
typedef uint16_t sparl_chip_column;
#endif

#if SPARL_CHIP_MOMENTS == SPARL_CHIP_BFLOAT16
#define SPARL_CHIP_MOMENT_BYTES 2
typedef uint16_t sparl_chip_moment;
#else
#define SPARL_CHIP_MOMENT_BYTES 4
typedef float sparl_chip_moment;
#endif

#if SPARL_CHIP_REPLAY == SPARL_CHIP_INT8
#define SPARL_CHIP_VALUE_BYTES 1
typedef int8_t sparl_chip_value;
#elif SPARL_CHIP_REPLAY == SPARL_CHIP_FLOAT16
#define SPARL_CHIP_VALUE_BYTES 2
typedef uint16_t sparl_chip_value;
#else
#define SPARL_CHIP_VALUE_BYTES 4
typedef float sparl_chip_value;
#endif

/* A slot of the replay has an observation, an action and a reward. The observation after the
 * transition is that of the next slot. The last state of an episode that a time limit ends has a
 * slot of its own, without action and reward. A batch also has the observations after its
 * transitions. */
#define SPARL_CHIP_SLOT (SPARL_CHIP_OBSERVATIONS + SPARL_CHIP_ACTIONS + 1)
#define SPARL_CHIP_BATCH_ROW (SPARL_CHIP_SLOT + SPARL_CHIP_OBSERVATIONS)
#define SPARL_CHIP_ROUND_UP(bytes) ((((bytes) + 3) / 4) * 4)
#define SPARL_CHIP_BATCH_BYTES \
    SPARL_CHIP_ROUND_UP(SPARL_CHIP_BATCH * SPARL_CHIP_BATCH_ROW * SPARL_CHIP_VALUE_BYTES)
#define SPARL_CHIP_BATCH_VALUES (SPARL_CHIP_BATCH_BYTES / SPARL_CHIP_VALUE_BYTES)
#define SPARL_CHIP_FEATURES (SPARL_CHIP_OBSERVATIONS + 1) /* those with a learned scale */

/* The scratch holds the gradient of one network or, in a topology update, the work on one layer:
 * a word and a bit per connection, a mean and a count per input, and a mean per output. */
#if (SPARL_CHIP_METHOD == SPARL_CHIP_SET_TD3) || (SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3)
#define SPARL_CHIP_TOPOLOGY_SCRATCH(connections, inputs, outputs) \
    ((connections) + ((connections) / 32) + 1 + (2 * (inputs)) + (outputs))
#else
#define SPARL_CHIP_TOPOLOGY_SCRATCH(connections, inputs, outputs) 0
#endif
#define SPARL_CHIP_SCRATCH_1                                                                 \
    SPARL_CHIP_MAX(SPARL_CHIP_TOPOLOGY_SCRATCH(                                              \
                       SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_1,                 \
                                             SPARL_CHIP_ACTOR_SIZE_1),                       \
                       SPARL_CHIP_OBSERVATIONS, SPARL_CHIP_HIDDEN_1),                        \
                   SPARL_CHIP_TOPOLOGY_SCRATCH(                                              \
                       SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_1,                \
                                             SPARL_CHIP_CRITIC_SIZE_1),                      \
                       SPARL_CHIP_CRITIC_INPUTS, SPARL_CHIP_HIDDEN_1))
#define SPARL_CHIP_SCRATCH_2                                                                 \
    SPARL_CHIP_TOPOLOGY_SCRATCH(                                                             \
        SPARL_CHIP_MAX(SPARL_CHIP_ACTOR_CONNECTIONS_2, SPARL_CHIP_CRITIC_CONNECTIONS_2),     \
        SPARL_CHIP_HIDDEN_1, SPARL_CHIP_HIDDEN_2)
#define SPARL_CHIP_SCRATCH_3                                                                 \
    SPARL_CHIP_MAX(SPARL_CHIP_TOPOLOGY_SCRATCH(                                              \
                       SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_3,                 \
                                             SPARL_CHIP_ACTOR_SIZE_3),                       \
                       SPARL_CHIP_HIDDEN_2, SPARL_CHIP_ACTIONS),                             \
                   SPARL_CHIP_TOPOLOGY_SCRATCH(                                              \
                       SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_3,                \
                                             SPARL_CHIP_CRITIC_SIZE_3),                      \
                       SPARL_CHIP_HIDDEN_2, 1))
#define SPARL_CHIP_SCRATCH                                                                     \
    SPARL_CHIP_MAX(SPARL_CHIP_MAX(SPARL_CHIP_ACTOR_PARAMETERS, SPARL_CHIP_CRITIC_PARAMETERS),  \
                   SPARL_CHIP_MAX(SPARL_CHIP_SCRATCH_1,                                        \
                                  SPARL_CHIP_MAX(SPARL_CHIP_SCRATCH_2, SPARL_CHIP_SCRATCH_3)))

/* ---- The state of an agent. Programs declare it and pass it; its members are private. ---- */

typedef union {
    float number;
    uint32_t bits;
} sparl_chip_word;

typedef struct { /* xoroshiro64** (Blackman and Vigna 2018) */
    uint32_t a, b;
} sparl_chip_random;

/* Bias corrections 1 - beta^t of Adam, and the number of steps t. */
typedef struct {
    float correction_1, correction_2;
    uint32_t steps;
} sparl_chip_adam;

/* The next slice of the update in progress. */
typedef struct {
    uint32_t phase, network, layer;
    uint32_t cursor;    /* sample, parameter or row */
    uint32_t grow;      /* topology update: connections of the layer that are still to be drawn */
    uint32_t grown;     /* those drawn so far that did not exist before */
    uint32_t free_left; /* free positions that have not been considered yet */
} sparl_chip_progress;

/* Activations of a network's hidden layers. */
typedef struct {
    float hidden_1[SPARL_CHIP_HIDDEN_1];
    float hidden_2[SPARL_CHIP_HIDDEN_2];
} sparl_chip_activations;

typedef struct {
    uint32_t head;       /* the slot that is written next, or whose action is still missing */
    uint32_t filled;     /* slots that have been written */
    uint32_t warming;    /* 1 during the warm-up, then 0 */
    uint32_t head_state; /* slot `head`: free, waiting for an action, or an episode's last state */
    uint32_t converted;  /* int8: slots of the warm-up that have been converted */
    float offset[SPARL_CHIP_FEATURES]; /* int8: centre; during the warm-up, the smallest value */
    float step[SPARL_CHIP_FEATURES];   /* int8: step of a code; in the warm-up, the largest value */
    uint32_t kinds[(SPARL_CHIP_CAPACITY + 15) / 16]; /* 2 bits per slot, see sparl_chip.c */
    sparl_chip_value values[SPARL_CHIP_CAPACITY * SPARL_CHIP_SLOT];
} sparl_chip_replay;

typedef struct {
    /* The networks: actor, critic 1, critic 2. */
    float parameters[SPARL_CHIP_PARAMETERS];
    float target[SPARL_CHIP_PARAMETERS];
    sparl_chip_moment m[SPARL_CHIP_PARAMETERS];
    sparl_chip_moment v[SPARL_CHIP_PARAMETERS];
    sparl_chip_adam adam[3];
    uint32_t updates; /* those begun */
    sparl_chip_random exploration;
    sparl_chip_random learning;
    /* The update in progress. */
    sparl_chip_progress progress;
    sparl_chip_word scratch[SPARL_CHIP_SCRATCH]; /* the gradient of a network; see above */
    sparl_chip_activations actor_pass, critic_pass, deltas;
    float input[SPARL_CHIP_CRITIC_INPUTS];
    float action[SPARL_CHIP_ACTIONS];
    float y[SPARL_CHIP_BATCH];
    uint32_t batch_terminal[(SPARL_CHIP_BATCH + 31) / 32]; /* a bit per transition */
    sparl_chip_activations act_pass;                       /* of sparl_chip_act alone */
    sparl_chip_value batch[SPARL_CHIP_BATCH_VALUES];
#if SPARL_CHIP_ROWS > 0
    /* Sparse layers: the first connection of each output, and the input of each connection. */
    uint16_t rows[SPARL_CHIP_ROWS];
#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3
    uint16_t target_rows[SPARL_CHIP_ROWS];
#endif
    sparl_chip_column columns[SPARL_CHIP_COLUMNS];
#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3
    sparl_chip_column target_columns[SPARL_CHIP_COLUMNS];
#endif
#endif
    /* The last member, so that a saved block may end before it. */
    sparl_chip_replay replay;
} sparl_chip;

/* Bytes of a `sparl_chip`; sparl_chip.c checks that the compiler agrees. */
#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3
#define SPARL_CHIP_PATTERNS 2
#else
#define SPARL_CHIP_PATTERNS 1
#endif
#define SPARL_CHIP_REPLAY_RAM                                                          \
    ((4 * (5 + (2 * SPARL_CHIP_FEATURES) + ((SPARL_CHIP_CAPACITY + 15) / 16))) +       \
     SPARL_CHIP_ROUND_UP(SPARL_CHIP_CAPACITY * SPARL_CHIP_SLOT * SPARL_CHIP_VALUE_BYTES))
#define SPARL_CHIP_AGENT_RAM                                                               \
    ((SPARL_CHIP_PARAMETERS * (8 + (2 * SPARL_CHIP_MOMENT_BYTES))) + (4 * 9) + (4 * 5) +   \
     (4 * 7) + (4 * SPARL_CHIP_SCRATCH) +                                                 \
     (16 * (SPARL_CHIP_HIDDEN_1 + SPARL_CHIP_HIDDEN_2)) +                                  \
     (4 * (SPARL_CHIP_CRITIC_INPUTS + SPARL_CHIP_ACTIONS + SPARL_CHIP_BATCH +              \
           ((SPARL_CHIP_BATCH + 31) / 32))) +                                              \
     SPARL_CHIP_BATCH_BYTES +                                                              \
     SPARL_CHIP_ROUND_UP(SPARL_CHIP_PATTERNS *                                             \
                         ((2 * SPARL_CHIP_ROWS) +                                          \
                          (SPARL_CHIP_COLUMN_BYTES * SPARL_CHIP_COLUMNS))))
#define SPARL_CHIP_RAM (SPARL_CHIP_AGENT_RAM + SPARL_CHIP_REPLAY_RAM)

/* ---- Functions ---- */

/* Initialise an agent: random patterns with the configured numbers of connections, weights and
 * biases uniform within +-1/sqrt(inputs), targets equal to the networks, an empty replay. */
void sparl_chip_init(sparl_chip *chip, uint32_t seed);

/* Compute the action in a state. Actions are in [-1, 1]; the caller scales them to the actuators.
 *
 * One forward pass of the actor. With SPARL_CHIP_EXPLORE, nearly Gaussian noise is added; during
 * the warm-up, the action is uniformly random instead unless SPARL_CHIP_RANDOM_WARMUP is 0. May be
 * called while an update is in progress. Returns SPARL_CHIP_OK, or SPARL_CHIP_NOT_FINITE with an
 * action of 0. */
int sparl_chip_act(sparl_chip *chip, const float observation[SPARL_CHIP_OBSERVATIONS],
                   int explore, float action[SPARL_CHIP_ACTIONS]);

/* Begin an episode; one that is in progress is cut. Returns SPARL_CHIP_OK; SPARL_CHIP_FULL if the
 * oldest slot was overwritten; or SPARL_CHIP_NOT_FINITE: nothing is stored, and no episode is in
 * progress. */
int sparl_chip_begin(sparl_chip *chip, const float observation[SPARL_CHIP_OBSERVATIONS]);

/* Store a transition from the last observation. `end` is SPARL_CHIP_CONTINUES, SPARL_CHIP_TERMINAL
 * or SPARL_CHIP_TIME_LIMIT; after the last two, sparl_chip_begin begins the next episode.
 * Returns SPARL_CHIP_OK; SPARL_CHIP_FULL if the oldest slot was overwritten;
 * SPARL_CHIP_NO_EPISODE; or SPARL_CHIP_NOT_FINITE: nothing is stored, and the episode is cut. */
int sparl_chip_store(sparl_chip *chip, const float action[SPARL_CHIP_ACTIONS], float reward,
                     const float next_observation[SPARL_CHIP_OBSERVATIONS], int end);

/* Learn: perform at most `budget` slices, and return early with any code but SPARL_CHIP_OK.
 *
 * A slice computes one sample's part of a gradient, a part of an optimiser step, or a part of a
 * topology update. No slice costs more than one sample of an update. Returns SPARL_CHIP_OK if the
 * update is still in progress, SPARL_CHIP_UPDATED, SPARL_CHIP_WAITING, or SPARL_CHIP_DIVERGED: the
 * update was abandoned before it changed the network whose gradient is NaN or beyond +-1e18. */
int sparl_chip_work(sparl_chip *chip, uint32_t budget);

/* A function of the caller that writes or reads `bytes` bytes at a byte offset in a storage, and
 * returns 0 on success. */
typedef int (*sparl_chip_writer)(void *storage, uint32_t offset, const void *from,
                                 uint32_t bytes);
typedef int (*sparl_chip_reader)(void *storage, uint32_t offset, void *to, uint32_t bytes);

/* Save the state without the replay (SPARL_CHIP_AGENT) or the whole state
 * (SPARL_CHIP_AGENT_AND_REPLAY or any other number) as one block with version and checksums.
 * Offsets ascend without gaps; the block has SPARL_CHIP_BLOCK bytes or, without the replay,
 * SPARL_CHIP_AGENT_BLOCK. Returns SPARL_CHIP_OK or SPARL_CHIP_IO. */
int sparl_chip_save(const sparl_chip *chip, int what, sparl_chip_writer write, void *storage);

/* Load a block. Returns SPARL_CHIP_OK or a negative code. A block that is truncated, altered, of
 * another version or of other sizes is rejected, and the state is unchanged. After a block without
 * a replay, the replay is empty, the warm-up is repeated, and an update of the networks that was in
 * progress is abandoned. If the storage fails or changes after the block has been checked,
 * SPARL_CHIP_IO or SPARL_CHIP_DAMAGED is returned, and the state must be initialised again. */
int sparl_chip_load(sparl_chip *chip, sparl_chip_reader read, void *storage);

#define SPARL_CHIP_SIZES 20 /* numbers in a block's header that identify the configuration */
#define SPARL_CHIP_HEADER_BYTES (4 * (SPARL_CHIP_SIZES + 6))
#define SPARL_CHIP_AGENT_BLOCK (SPARL_CHIP_HEADER_BYTES + SPARL_CHIP_AGENT_RAM)
#define SPARL_CHIP_BLOCK (SPARL_CHIP_HEADER_BYTES + SPARL_CHIP_RAM)

#ifdef __cplusplus
}
#endif

#endif
