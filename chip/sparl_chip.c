/* sparl_chip: TD3 with dense or truly sparse networks, trained on a microcontroller.
 * SPDX-License-Identifier: MIT-0
 *
 * The algorithm is that of sparl's agents/td3.py, in the same order. A batch is processed sample by
 * sample: the gradients of a network are summed in one array, which the three networks share. For
 * that reason an update consists of passes over the batch (targets y, critic 1, critic 2, actor),
 * and sparl_chip_work performs a few slices of them per call.
 *
 * Results are the same, bit for bit, on every processor with IEEE single precision: the order of
 * additions is fixed, multiply-adds are not fused, and functions such as tanh are defined here.
 *
 * Contents: arithmetic; layers and networks; the replay; TD3; topology updates; slices; saving. */
#include "sparl_chip.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Keep the compiler from fusing floating-point operations, and reject -ffast-math, which would also
 * allow it to reorder them. */
#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif
#if defined(__FAST_MATH__)
#error "sparl_chip: compile sparl_chip.c without -ffast-math; results would vary"
#endif
#if defined(FLT_EVAL_METHOD) && (FLT_EVAL_METHOD != 0)
#error "sparl_chip: float expressions must be evaluated in float; on x86, use -mfpmath=sse"
#endif

/* If all layers are dense, there are no patterns that could change. */
#define SPARL_CHIP_REWIRES                              \
    ((SPARL_CHIP_ROWS > 0) &&                           \
     ((SPARL_CHIP_METHOD == SPARL_CHIP_SET_TD3) || (SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3)))
#define SPARL_CHIP_OWN_TARGETS \
    ((SPARL_CHIP_ROWS > 0) && (SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3))

#if (SPARL_CHIP_BATCH < 1) || (SPARL_CHIP_POLICY_DELAY < 1)
#error "sparl_chip: SPARL_CHIP_BATCH and SPARL_CHIP_POLICY_DELAY must be at least 1"
#endif
#if SPARL_CHIP_REWIRES && \
    (((SPARL_CHIP_REWIRE_EVERY) % (SPARL_CHIP_POLICY_DELAY) != 0) || (SPARL_CHIP_REWIRE_EVERY < 1))
#error "sparl_chip: SPARL_CHIP_REWIRE_EVERY must be a positive multiple of SPARL_CHIP_POLICY_DELAY"
#endif
#if (SPARL_CHIP_REPLAY == SPARL_CHIP_INT8) && (SPARL_CHIP_CAPACITY < (5 * SPARL_CHIP_WARMUP))
#error "sparl_chip: an int8 replay needs SPARL_CHIP_CAPACITY >= 5 * SPARL_CHIP_WARMUP"
#endif
#if (SPARL_CHIP_WARMUP < 4) || (SPARL_CHIP_WARMUP >= SPARL_CHIP_CAPACITY)
#error "sparl_chip: SPARL_CHIP_WARMUP must be at least 4 and less than SPARL_CHIP_CAPACITY"
#endif
#if (SPARL_CHIP_ROWS > 0) && ((SPARL_CHIP_ACTOR_CONNECTIONS_1 > 65535) ||                       \
                              (SPARL_CHIP_ACTOR_CONNECTIONS_2 > 65535) ||                       \
                              (SPARL_CHIP_ACTOR_CONNECTIONS_3 > 65535) ||                       \
                              (SPARL_CHIP_CRITIC_CONNECTIONS_1 > 65535) ||                      \
                              (SPARL_CHIP_CRITIC_CONNECTIONS_2 > 65535) ||                      \
                              (SPARL_CHIP_CRITIC_CONNECTIONS_3 > 65535))
#error "sparl_chip: a sparse network may have at most 65,535 connections per layer"
#endif

/* Compile-time checks of facts that the saved blocks rely on. */
typedef char sparl_chip_ram_is_the_size[(sizeof(sparl_chip) == (size_t)SPARL_CHIP_RAM) ? 1 : -1];
typedef char sparl_chip_float_has_4_bytes[(sizeof(float) == 4u) ? 1 : -1];

#if SPARL_CHIP_REWIRES
/* The preprocessor cannot compare floats. */
typedef char
    sparl_chip_rewire_fraction_is_below_1[((int)(SPARL_CHIP_REWIRE_FRACTION) == 0) ? 1 : -1];
#endif

enum {
    OBSERVATIONS = SPARL_CHIP_OBSERVATIONS,
    ACTIONS = SPARL_CHIP_ACTIONS,
    BATCH = SPARL_CHIP_BATCH,
    CAPACITY = SPARL_CHIP_CAPACITY,
    WARMUP = SPARL_CHIP_WARMUP,
    SLOT = SPARL_CHIP_SLOT,
    ROW = SPARL_CHIP_BATCH_ROW,
    REWARD = SPARL_CHIP_OBSERVATIONS + SPARL_CHIP_ACTIONS, /* place of the reward in a slot */
    POLICY_DELAY = SPARL_CHIP_POLICY_DELAY
};

enum { ACTOR, CRITIC_1, CRITIC_2, NETWORKS }; /* networks, in the order of the parameters */
enum { LAYERS = 3 };

/* ---- Arithmetic ---- */

static void clear_bytes(void *memory, size_t n)
{
    uint8_t *bytes = (uint8_t *)memory;
    size_t i;
    for (i = 0u; i < n; ++i) {
        bytes[i] = 0u;
    }
}

static bool is_finite(float x) { return (x >= -FLT_MAX) && (x <= FLT_MAX); }

static float clip(float x, float limit)
{
    float y = x;
    if (y > limit) {
        y = limit;
    } else if (y < -limit) {
        y = -limit;
    } else {
        /* unchanged, also if it is NaN */
    }
    return y;
}

/* e^x for |x| <= 20, within 1 unit in the last place (Cephes). */
static float exponential(float x)
{
    const float turns = (1.44269504f * x) + ((x < 0.0f) ? -0.5f : 0.5f);
    const int32_t exponent = (int32_t)turns; /* of 2 */
    const float n = (float)exponent;
    const float r = (x - (n * 0.693359375f)) - (n * -2.12194440e-4f);
    float p = 1.9875691500e-4f;
    sparl_chip_word power; /* 2^n */
    p = (p * r) + 1.3981999507e-3f;
    p = (p * r) + 8.3334519073e-3f;
    p = (p * r) + 4.1665795894e-2f;
    p = (p * r) + 1.6666665459e-1f;
    p = (p * r) + 5.0000001201e-1f;
    p = ((p * r) * r) + r + 1.0f;
    power.bits = ((uint32_t)exponent + 127u) << 23;
    return p * power.number;
}

/* tanh x, within 2 units in the last place (Cephes). */
static float hyperbolic_tangent(float x)
{
    const float z = (x < 0.0f) ? -x : x;
    float y = x; /* NaN remains NaN */
    if (z < 0.625f) {
        const float s = z * z;
        float p = -5.70498872745e-3f;
        p = (p * s) + 2.06390887954e-2f;
        p = (p * s) - 5.37397155531e-2f;
        p = (p * s) + 1.33314422036e-1f;
        p = (p * s) - 3.33332819422e-1f;
        y = ((p * s) * x) + x;
    } else if (z < 9.1f) {
        y = 1.0f - (2.0f / (exponential(2.0f * z) + 1.0f));
        y = (x < 0.0f) ? -y : y;
        /* cppcheck-suppress multiCondition ; false for NaN */
    } else if (z >= 9.1f) {
        y = (x < 0.0f) ? -1.0f : 1.0f;
    } else {
        /* NaN */
    }
    return y;
}

static uint32_t rotate(uint32_t x, uint32_t k) { return (x << k) | (x >> (32u - k)); }

static uint32_t random_bits(sparl_chip_random *random)
{
    const uint32_t a = random->a;
    const uint32_t b = random->b ^ a;
    const uint32_t result = rotate(a * 0x9E3779BBu, 5u) * 5u;
    random->a = rotate(a, 26u) ^ b ^ (b << 9);
    random->b = rotate(b, 13u);
    return result;
}

/* Spread a seed over the state of a generator (the finaliser of MurmurHash3). */
static uint32_t spread(uint32_t x)
{
    uint32_t y = x + 0x9E3779B9u;
    y = (y ^ (y >> 16)) * 0x85EBCA6Bu;
    y = (y ^ (y >> 13)) * 0xC2B2AE35u;
    return y ^ (y >> 16);
}

static void seed_random(sparl_chip_random *random, uint32_t seed, uint32_t stream)
{
    random->a = spread(seed ^ spread(stream)) | 1u; /* the state must not be 0 */
    random->b = spread(random->a ^ seed);
}

/* An integer in [0, n), from the upper bits of a product. */
static uint32_t random_below(sparl_chip_random *random, uint32_t n)
{
    return (uint32_t)(((uint64_t)random_bits(random) * n) >> 32);
}

/* A number in [-1, 1). */
static float random_uniform(sparl_chip_random *random)
{
    return ((float)(random_bits(random) >> 8) * (1.0f / 8388608.0f)) - 1.0f;
}

/* A nearly normal number: the sum of 12 uniform numbers of variance 1/12, within +-6. */
static float random_normal(sparl_chip_random *random)
{
    uint32_t sum = 0u;
    uint32_t k;
    for (k = 0u; k < 6u; ++k) {
        const uint32_t bits = random_bits(random);
        sum += (bits & 0xFFFFu) + (bits >> 16);
    }
    return ((float)sum - 393210.0f) * (1.0f / 65536.0f);
}

/* ---- Layers and networks ---- */

/* Places of a layer's parameters in the arrays of the state. */
typedef struct {
    uint32_t inputs, outputs, connections;
    uint32_t weights, biases; /* in `parameters`, `target`, `m` and `v` */
    uint32_t columns, rows;   /* in `columns` and `rows`, if the layer is sparse */
    bool sparse;
} layer_places;

#define ACTOR_LAYER(inputs, outputs, l, weights, columns, rows)                             \
    {(inputs), (outputs), SPARL_CHIP_ACTOR_CONNECTIONS_##l, (weights),                      \
     (weights) + SPARL_CHIP_ACTOR_CONNECTIONS_##l, (columns), (rows),                       \
     (SPARL_CHIP_ACTOR_CONNECTIONS_##l < SPARL_CHIP_ACTOR_SIZE_##l)}
#define CRITIC_LAYER(inputs, outputs, l, weights, columns, rows)                            \
    {(inputs), (outputs), SPARL_CHIP_CRITIC_CONNECTIONS_##l, (weights),                     \
     (weights) + SPARL_CHIP_CRITIC_CONNECTIONS_##l, (columns), (rows),                      \
     (SPARL_CHIP_CRITIC_CONNECTIONS_##l < SPARL_CHIP_CRITIC_SIZE_##l)}

/* Where the second and third layer begin, from the beginning of the network. */
#define ACTOR_COLUMNS_1 \
    SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_1, SPARL_CHIP_ACTOR_SIZE_1)
#define ACTOR_COLUMNS_2 \
    SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_2, SPARL_CHIP_ACTOR_SIZE_2)
#define ACTOR_ROWS_1                                                                  \
    SPARL_CHIP_ROWS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_1, SPARL_CHIP_ACTOR_SIZE_1,       \
                       SPARL_CHIP_HIDDEN_1)
#define ACTOR_ROWS_2                                                                  \
    SPARL_CHIP_ROWS_OF(SPARL_CHIP_ACTOR_CONNECTIONS_2, SPARL_CHIP_ACTOR_SIZE_2,       \
                       SPARL_CHIP_HIDDEN_2)
#define ACTOR_WEIGHTS_2 (SPARL_CHIP_ACTOR_CONNECTIONS_1 + SPARL_CHIP_HIDDEN_1)
#define ACTOR_WEIGHTS_3 (ACTOR_WEIGHTS_2 + SPARL_CHIP_ACTOR_CONNECTIONS_2 + SPARL_CHIP_HIDDEN_2)
#define CRITIC_COLUMNS_1 \
    SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_1, SPARL_CHIP_CRITIC_SIZE_1)
#define CRITIC_COLUMNS_2 \
    SPARL_CHIP_COLUMNS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_2, SPARL_CHIP_CRITIC_SIZE_2)
#define CRITIC_ROWS_1                                                                 \
    SPARL_CHIP_ROWS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_1, SPARL_CHIP_CRITIC_SIZE_1,     \
                       SPARL_CHIP_HIDDEN_1)
#define CRITIC_ROWS_2                                                                 \
    SPARL_CHIP_ROWS_OF(SPARL_CHIP_CRITIC_CONNECTIONS_2, SPARL_CHIP_CRITIC_SIZE_2,     \
                       SPARL_CHIP_HIDDEN_2)
#define CRITIC_WEIGHTS_2 (SPARL_CHIP_CRITIC_CONNECTIONS_1 + SPARL_CHIP_HIDDEN_1)
#define CRITIC_WEIGHTS_3 \
    (CRITIC_WEIGHTS_2 + SPARL_CHIP_CRITIC_CONNECTIONS_2 + SPARL_CHIP_HIDDEN_2)

#define CRITIC_LAYERS(weights, columns, rows)                                                  \
    {CRITIC_LAYER(SPARL_CHIP_CRITIC_INPUTS, SPARL_CHIP_HIDDEN_1, 1, (weights), (columns),      \
                  (rows)),                                                                     \
     CRITIC_LAYER(SPARL_CHIP_HIDDEN_1, SPARL_CHIP_HIDDEN_2, 2, (weights) + CRITIC_WEIGHTS_2,   \
                  (columns) + CRITIC_COLUMNS_1, (rows) + CRITIC_ROWS_1),                       \
     CRITIC_LAYER(SPARL_CHIP_HIDDEN_2, 1, 3, (weights) + CRITIC_WEIGHTS_3,                     \
                  (columns) + CRITIC_COLUMNS_1 + CRITIC_COLUMNS_2,                             \
                  (rows) + CRITIC_ROWS_1 + CRITIC_ROWS_2)}

static const layer_places places[NETWORKS][LAYERS] = {
    {ACTOR_LAYER(SPARL_CHIP_OBSERVATIONS, SPARL_CHIP_HIDDEN_1, 1, 0, 0, 0),
     ACTOR_LAYER(SPARL_CHIP_HIDDEN_1, SPARL_CHIP_HIDDEN_2, 2, ACTOR_WEIGHTS_2, ACTOR_COLUMNS_1,
                 ACTOR_ROWS_1),
     ACTOR_LAYER(SPARL_CHIP_HIDDEN_2, SPARL_CHIP_ACTIONS, 3, ACTOR_WEIGHTS_3,
                 ACTOR_COLUMNS_1 + ACTOR_COLUMNS_2, ACTOR_ROWS_1 + ACTOR_ROWS_2)},
    CRITIC_LAYERS(SPARL_CHIP_ACTOR_PARAMETERS, SPARL_CHIP_ACTOR_COLUMNS, SPARL_CHIP_ACTOR_ROWS),
    CRITIC_LAYERS(SPARL_CHIP_ACTOR_PARAMETERS + SPARL_CHIP_CRITIC_PARAMETERS,
                  SPARL_CHIP_ACTOR_COLUMNS + SPARL_CHIP_CRITIC_COLUMNS,
                  SPARL_CHIP_ACTOR_ROWS + SPARL_CHIP_CRITIC_ROWS)};

/* The first parameter of a network, and the number of its parameters. */
static uint32_t first_of(uint32_t network) { return places[network][0].weights; }

static uint32_t parameters_of(uint32_t network)
{
    return (network == (uint32_t)ACTOR) ? (uint32_t)SPARL_CHIP_ACTOR_PARAMETERS
                                        : (uint32_t)SPARL_CHIP_CRITIC_PARAMETERS;
}

/* The parameters and patterns of the online networks or of the targets. */
typedef struct {
    const float *parameters;
#if SPARL_CHIP_ROWS > 0
    const uint16_t *rows;
    const sparl_chip_column *columns;
#endif
} network_set;

static network_set online_networks(const sparl_chip *chip)
{
    network_set set;
    set.parameters = chip->parameters;
#if SPARL_CHIP_ROWS > 0
    set.rows = chip->rows;
    set.columns = chip->columns;
#endif
    return set;
}

static network_set target_networks(const sparl_chip *chip)
{
    network_set set = online_networks(chip);
    set.parameters = chip->target;
#if SPARL_CHIP_OWN_TARGETS
    set.rows = chip->target_rows;
    set.columns = chip->target_columns;
#endif
    return set;
}

/* y = W x + b */
static void linear(const network_set *set, const layer_places *layer, const float *x, float *y)
{
    const float *w = &set->parameters[layer->weights];
    const float *b = &set->parameters[layer->biases];
    uint32_t o;
    uint32_t i;
#if SPARL_CHIP_ROWS > 0
    if (layer->sparse) {
        const uint16_t *rows = &set->rows[layer->rows];
        const sparl_chip_column *columns = &set->columns[layer->columns];
        for (o = 0u; o < layer->outputs; ++o) {
            const uint32_t end = rows[o + 1u];
            float sum = b[o];
            for (i = rows[o]; i < end; ++i) {
                sum += w[i] * x[columns[i]];
            }
            y[o] = sum;
        }
    } else
#endif
    {
        for (o = 0u; o < layer->outputs; ++o) {
            float sum = b[o];
            for (i = 0u; i < layer->inputs; ++i) {
                sum += w[i] * x[i];
            }
            w = &w[layer->inputs];
            y[o] = sum;
        }
    }
}

/* dW += dy x^T and db += dy, for one sample. Rows whose dy is 0 are skipped. */
static void add_gradient(const network_set *set, const layer_places *layer, const float *x,
                         const float *dy, sparl_chip_word *gradient)
{
    sparl_chip_word *dw = gradient;
    sparl_chip_word *db = &gradient[layer->connections];
    uint32_t o;
    uint32_t i;
#if SPARL_CHIP_ROWS > 0
    if (layer->sparse) {
        const uint16_t *rows = &set->rows[layer->rows];
        const sparl_chip_column *columns = &set->columns[layer->columns];
        for (o = 0u; o < layer->outputs; ++o) {
            const float d = dy[o];
            if (d != 0.0f) {
                const uint32_t end = rows[o + 1u];
                db[o].number += d;
                for (i = rows[o]; i < end; ++i) {
                    dw[i].number += d * x[columns[i]];
                }
            }
        }
    } else
#endif
    {
        (void)set;
        for (o = 0u; o < layer->outputs; ++o) {
            const float d = dy[o];
            if (d != 0.0f) {
                db[o].number += d;
                for (i = 0u; i < layer->inputs; ++i) {
                    dw[i].number += d * x[i];
                }
            }
            dw = &dw[layer->inputs];
        }
    }
}

/* dx = W^T dy, for the inputs from `first` on. */
static void input_gradient(const network_set *set, const layer_places *layer, const float *dy,
                           uint32_t first, float *dx)
{
    const float *w = &set->parameters[layer->weights];
    uint32_t o;
    uint32_t i;
    for (i = first; i < layer->inputs; ++i) {
        dx[i - first] = 0.0f;
    }
#if SPARL_CHIP_ROWS > 0
    if (layer->sparse) {
        const uint16_t *rows = &set->rows[layer->rows];
        const sparl_chip_column *columns = &set->columns[layer->columns];
        for (o = 0u; o < layer->outputs; ++o) {
            const float d = dy[o];
            if (d != 0.0f) {
                const uint32_t end = rows[o + 1u];
                for (i = rows[o]; i < end; ++i) {
                    if (columns[i] >= first) {
                        dx[columns[i] - first] += d * w[i];
                    }
                }
            }
        }
    } else
#endif
    {
        for (o = 0u; o < layer->outputs; ++o) {
            const float d = dy[o];
            if (d != 0.0f) {
                for (i = first; i < layer->inputs; ++i) {
                    dx[i - first] += d * w[i];
                }
            }
            w = &w[layer->inputs];
        }
    }
}

static void relu(float *y, uint32_t n)
{
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        if (y[i] < 0.0f) { /* false for NaN, which therefore remains */
            y[i] = 0.0f;
        }
    }
}

/* Keep the gradient where the unit was active. */
static void relu_gradient(const float *y, float *d, uint32_t n)
{
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        if (y[i] == 0.0f) {
            d[i] = 0.0f;
        }
    }
}

static void forward(const network_set *set, uint32_t network, const float *input,
                    sparl_chip_activations *pass, float *output)
{
    const layer_places *layers = places[network];
    linear(set, &layers[0], input, pass->hidden_1);
    relu(pass->hidden_1, layers[0].outputs);
    linear(set, &layers[1], pass->hidden_1, pass->hidden_2);
    relu(pass->hidden_2, layers[1].outputs);
    linear(set, &layers[2], pass->hidden_2, output);
}

/* The gradients with respect to the hidden units, in `chip->deltas`, for a gradient `d_output`. */
static void backward(sparl_chip *chip, uint32_t network, const sparl_chip_activations *pass,
                     const float *d_output)
{
    const network_set online = online_networks(chip);
    const layer_places *layers = places[network];
    input_gradient(&online, &layers[2], d_output, 0u, chip->deltas.hidden_2);
    relu_gradient(pass->hidden_2, chip->deltas.hidden_2, layers[1].outputs);
    input_gradient(&online, &layers[1], chip->deltas.hidden_2, 0u, chip->deltas.hidden_1);
    relu_gradient(pass->hidden_1, chip->deltas.hidden_1, layers[0].outputs);
}

/* Add one sample's part of a network's gradient to `chip->scratch`, after `backward`. */
static void add_gradients(sparl_chip *chip, uint32_t network, const float *input,
                          const sparl_chip_activations *pass, const float *d_output)
{
    const network_set online = online_networks(chip);
    const layer_places *layers = places[network];
    const uint32_t first = first_of(network);
    add_gradient(&online, &layers[0], input, chip->deltas.hidden_1, chip->scratch);
    add_gradient(&online, &layers[1], pass->hidden_1, chip->deltas.hidden_2,
                 &chip->scratch[layers[1].weights - first]);
    add_gradient(&online, &layers[2], pass->hidden_2, d_output,
                 &chip->scratch[layers[2].weights - first]);
}

/* The actor's action in a state, before any noise. */
static void policy(const network_set *set, const float *observation, sparl_chip_activations *pass,
                   float *action)
{
    uint32_t i;
    forward(set, (uint32_t)ACTOR, observation, pass, action);
    for (i = 0u; i < (uint32_t)ACTIONS; ++i) {
        action[i] = hyperbolic_tangent(action[i]);
    }
}

/* ---- The replay ---- */

/* Kinds of slots, 2 bits each. */
enum { SLOT_FOLLOWED, SLOT_TERMINAL, SLOT_OBSERVATION }; /* the last one is no transition */

static uint32_t kind_of(const sparl_chip_replay *replay, uint32_t slot)
{
    return (replay->kinds[slot / 16u] >> (2u * (slot % 16u))) & 3u;
}

static void set_kind(sparl_chip_replay *replay, uint32_t slot, uint32_t kind)
{
    uint32_t *word = &replay->kinds[slot / 16u];
    *word = (*word & ~((uint32_t)3u << (2u * (slot % 16u)))) | (kind << (2u * (slot % 16u)));
}

#if SPARL_CHIP_REPLAY == SPARL_CHIP_INT8

/* Scales belong to the observations and to the reward; actions are in [-1, 1]. */
static bool has_scale(uint32_t place)
{
    return (place < (uint32_t)OBSERVATIONS) || (place == (uint32_t)REWARD);
}

static uint32_t feature_at(uint32_t place)
{
    return (place < (uint32_t)OBSERVATIONS) ? place : (uint32_t)OBSERVATIONS;
}

static float decode(const sparl_chip_replay *replay, uint32_t place, int8_t code)
{
    float x = (float)code * (1.0f / 127.0f);
    if (has_scale(place)) {
        const uint32_t feature = feature_at(place);
        x = replay->offset[feature] + ((float)code * replay->step[feature]);
    }
    return x;
}

static int8_t encode(const sparl_chip_replay *replay, uint32_t place, float x)
{
    float code = x * 127.0f;
    if (has_scale(place)) {
        const uint32_t feature = feature_at(place);
        code = (x - replay->offset[feature]) / replay->step[feature];
    }
    code = clip(code, 127.0f);
    return (int8_t)(code + ((code < 0.0f) ? -0.5f : 0.5f));
}

/* During the warm-up, when scales are not known, slots are float32 values at the end of the memory
 * of the replay. The following slices convert them to codes at their final places. */
enum { FLOAT_SLOTS_AT = (CAPACITY - (4 * WARMUP)) * SLOT };

static int8_t *float_value(sparl_chip_replay *replay, uint32_t slot, uint32_t place)
{
    return &replay->values[(uint32_t)FLOAT_SLOTS_AT + (4u * ((slot * (uint32_t)SLOT) + place))];
}

static void convert_slot(sparl_chip_replay *replay)
{
    const uint32_t slot = replay->converted;
    uint32_t place;
    for (place = 0u; place < (uint32_t)SLOT; ++place) {
        float x;
        (void)memcpy(&x, float_value(replay, slot, place), sizeof x);
        replay->values[(slot * (uint32_t)SLOT) + place] = encode(replay, place, x);
    }
    ++replay->converted;
}

static void write_value(sparl_chip_replay *replay, uint32_t slot, uint32_t place, float x)
{
    if ((slot < (uint32_t)WARMUP) && (replay->converted <= slot)) {
        (void)memcpy(float_value(replay, slot, place), &x, sizeof x);
        if ((replay->warming != 0u) && (has_scale(place))) {
            const uint32_t feature = feature_at(place);
            if (x < replay->offset[feature]) {
                replay->offset[feature] = x;
            }
            if (x > replay->step[feature]) {
                replay->step[feature] = x;
            }
        }
    } else {
        replay->values[(slot * (uint32_t)SLOT) + place] = encode(replay, place, x);
    }
}

static void forget_ranges(sparl_chip_replay *replay)
{
    uint32_t i;
    for (i = 0u; i < (uint32_t)SPARL_CHIP_FEATURES; ++i) {
        replay->offset[i] = FLT_MAX;
        replay->step[i] = -FLT_MAX;
    }
}

/* Turn the smallest and the largest value of each feature into a centre and the step of a code. */
static void learn_scales(sparl_chip_replay *replay)
{
    uint32_t i;
    for (i = 0u; i < (uint32_t)SPARL_CHIP_FEATURES; ++i) {
        const float low = replay->offset[i];
        const float high = replay->step[i];
        const float half = clip(SPARL_CHIP_HEADROOM * ((0.5f * high) - (0.5f * low)), FLT_MAX);
        replay->offset[i] = (0.5f * high) + (0.5f * low);
        replay->step[i] = ((half > FLT_MIN) ? half : 1.0f) / 127.0f;
    }
}

#elif SPARL_CHIP_REPLAY == SPARL_CHIP_FLOAT16

static float decode(const sparl_chip_replay *replay, uint32_t place, uint16_t code)
{
    const uint32_t sign = ((uint32_t)code & 0x8000u) << 16;
    sparl_chip_word x;
    (void)replay;
    (void)place;
    x.bits = ((uint32_t)code & 0x7FFFu) << 13;
    x.number *= 5.192296858534828e33f; /* 2^112, the difference of the exponents' biases */
    x.bits |= sign;
    return x.number;
}

/* Round to the nearest half-precision number, ties to even; at most 65,504 in magnitude. */
static uint16_t encode(float value)
{
    sparl_chip_word x;
    sparl_chip_word magnitude;
    uint32_t code;
    x.number = clip(value, 65504.0f);
    magnitude.bits = x.bits & 0x7FFFFFFFu;
    if (magnitude.number < 6.103515625e-5f) { /* subnormal: a multiple of 2^-24 */
        magnitude.number += 0.5f;             /* rounds, because the step of floats is 2^-24 here */
        code = magnitude.bits - 0x3F000000u;
    } else {
        const uint32_t rounding = 0xFFFu + ((magnitude.bits >> 13) & 1u);
        code = ((magnitude.bits + rounding) >> 13) - (112u << 10);
    }
    return (uint16_t)(code | ((x.bits >> 16) & 0x8000u));
}

static void write_value(sparl_chip_replay *replay, uint32_t slot, uint32_t place, float x)
{
    replay->values[(slot * (uint32_t)SLOT) + place] = encode(x);
}

#else

static float decode(const sparl_chip_replay *replay, uint32_t place, float value)
{
    (void)replay;
    (void)place;
    return value;
}

static void write_value(sparl_chip_replay *replay, uint32_t slot, uint32_t place, float x)
{
    replay->values[(slot * (uint32_t)SLOT) + place] = x;
}

#endif

static void empty_replay(sparl_chip_replay *replay)
{
    clear_bytes(replay, sizeof *replay);
    replay->warming = 1u;
#if SPARL_CHIP_REPLAY == SPARL_CHIP_INT8
    forget_ranges(replay);
#endif
}

enum { HEAD_FREE, HEAD_OPEN, HEAD_CUT }; /* values of `head_state` */

static uint32_t slot_after(uint32_t slot)
{
    return ((slot + 1u) < (uint32_t)CAPACITY) ? (slot + 1u) : 0u;
}

static void advance(sparl_chip_replay *replay)
{
    replay->head = slot_after(replay->head);
    replay->head_state = (uint32_t)HEAD_FREE;
}

/* Write an observation into the slot at `head`, which then waits for its action. */
static int open_slot(sparl_chip_replay *replay, const float *observation)
{
    int result = SPARL_CHIP_OK;
    uint32_t i;
    if (replay->head_state != (uint32_t)HEAD_FREE) {
        /* the slot is already counted */
    } else if (replay->filled < (uint32_t)CAPACITY) {
        ++replay->filled;
    } else {
        result = SPARL_CHIP_FULL;
    }
    if ((replay->warming != 0u) && (replay->filled > (uint32_t)WARMUP)) {
        replay->warming = 0u;
#if SPARL_CHIP_REPLAY == SPARL_CHIP_INT8
        learn_scales(replay);
#endif
    }
#if SPARL_CHIP_REPLAY == SPARL_CHIP_INT8
    /* Convert float32 slots here if this slot would overwrite them. */
    while ((replay->warming == 0u) && (replay->converted < (uint32_t)WARMUP) &&
           (((replay->head + 1u) * (uint32_t)SLOT) >
            ((uint32_t)FLOAT_SLOTS_AT + (4u * (uint32_t)SLOT * replay->converted)))) {
        convert_slot(replay);
    }
#endif
    for (i = 0u; i < (uint32_t)OBSERVATIONS; ++i) {
        write_value(replay, replay->head, i, observation[i]);
    }
    set_kind(replay, replay->head, (uint32_t)SLOT_OBSERVATION);
    replay->head_state = (uint32_t)HEAD_OPEN;
    return result;
}

/* Whether the slot at `head` has the state that the transition before it reached. */
static bool head_follows_transition(const sparl_chip_replay *replay)
{
    const uint32_t before =
        (replay->head > 0u) ? (replay->head - 1u) : ((uint32_t)CAPACITY - 1u);
    return (replay->filled > 1u) && (kind_of(replay, before) == (uint32_t)SLOT_FOLLOWED);
}

static bool all_finite(const float *x, uint32_t n)
{
    bool result = true;
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        if (!is_finite(x[i])) {
            result = false;
        }
    }
    return result;
}

int sparl_chip_begin(sparl_chip *chip, const float observation[SPARL_CHIP_OBSERVATIONS])
{
    sparl_chip_replay *replay = &chip->replay;
    int result = SPARL_CHIP_OK;
    if (!all_finite(observation, (uint32_t)OBSERVATIONS)) {
        if (replay->head_state == (uint32_t)HEAD_OPEN) {
            replay->head_state = (uint32_t)HEAD_CUT; /* the last episode does not continue */
        }
        result = SPARL_CHIP_NOT_FINITE;
    } else {
        if ((replay->head_state != (uint32_t)HEAD_FREE) && (head_follows_transition(replay))) {
            advance(replay); /* the last episode was cut; its last state remains */
        }
        result = open_slot(replay, observation);
    }
    return result;
}

int sparl_chip_store(sparl_chip *chip, const float action[SPARL_CHIP_ACTIONS], float reward,
                     const float next_observation[SPARL_CHIP_OBSERVATIONS], int end)
{
    sparl_chip_replay *replay = &chip->replay;
    int result = SPARL_CHIP_OK;
    if (replay->head_state != (uint32_t)HEAD_OPEN) {
        result = SPARL_CHIP_NO_EPISODE;
    } else if ((!all_finite(action, (uint32_t)ACTIONS)) || (!is_finite(reward)) ||
               (!all_finite(next_observation, (uint32_t)OBSERVATIONS))) {
        replay->head_state = (uint32_t)HEAD_CUT;
        result = SPARL_CHIP_NOT_FINITE;
    } else {
        const uint32_t slot = replay->head;
        uint32_t i;
        for (i = 0u; i < (uint32_t)ACTIONS; ++i) {
            write_value(replay, slot, (uint32_t)OBSERVATIONS + i, action[i]);
        }
        write_value(replay, slot, (uint32_t)REWARD, reward);
        set_kind(replay, slot,
                 (end == SPARL_CHIP_TERMINAL) ? (uint32_t)SLOT_TERMINAL : (uint32_t)SLOT_FOLLOWED);
        advance(replay);
        if (end != SPARL_CHIP_TERMINAL) {
            result = open_slot(replay, next_observation);
        }
        if (end == SPARL_CHIP_TIME_LIMIT) {
            replay->head_state = (uint32_t)HEAD_CUT;
        }
    }
    return result;
}

/* A random transition. At least about half of all slots are transitions, because each of the other
 * slots follows a transition; if 32 draws find none, the next transition is taken. */
static uint32_t random_transition(sparl_chip *chip)
{
    const sparl_chip_replay *replay = &chip->replay;
    uint32_t slot = random_below(&chip->learning, replay->filled);
    uint32_t draws = 1u;
    while (kind_of(replay, slot) == (uint32_t)SLOT_OBSERVATION) {
        if (draws < 32u) {
            slot = random_below(&chip->learning, replay->filled);
            ++draws;
        } else {
            slot = ((slot + 1u) < replay->filled) ? (slot + 1u) : 0u;
        }
    }
    return slot;
}

/* Copy a random batch, so that later transitions cannot overwrite it. */
static void pick_batch(sparl_chip *chip)
{
    const sparl_chip_replay *replay = &chip->replay;
    uint32_t sample;
    clear_bytes(chip->batch_terminal, sizeof chip->batch_terminal);
    for (sample = 0u; sample < (uint32_t)BATCH; ++sample) {
        sparl_chip_value *row = &chip->batch[sample * (uint32_t)ROW];
        const uint32_t slot = random_transition(chip);
        uint32_t next = slot_after(slot);
        (void)memcpy(row, &replay->values[slot * (uint32_t)SLOT], (size_t)SLOT * sizeof *row);
        if (kind_of(replay, slot) == (uint32_t)SLOT_TERMINAL) {
            chip->batch_terminal[sample / 32u] |= (uint32_t)1u << (sample % 32u);
            next = slot; /* any finite state: its value is not used */
        }
        (void)memcpy(&row[SLOT], &replay->values[next * (uint32_t)SLOT],
                     (size_t)OBSERVATIONS * sizeof *row);
    }
}

/* Decode values of a batch: those of sample `sample` from `first` on, which in a slot would be at
 * `place` and after it. */
static void read_batch(const sparl_chip *chip, uint32_t sample, uint32_t first, uint32_t place,
                       uint32_t n, float *to)
{
    const sparl_chip_value *row = &chip->batch[sample * (uint32_t)ROW];
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        to[i] = decode(&chip->replay, place + i, row[first + i]);
    }
}

/* ---- TD3 ---- */

int sparl_chip_act(sparl_chip *chip, const float observation[SPARL_CHIP_OBSERVATIONS], int explore,
                   float action[SPARL_CHIP_ACTIONS])
{
    const network_set online = online_networks(chip);
    int result = SPARL_CHIP_OK;
    uint32_t i;
    policy(&online, observation, &chip->act_pass, action);
    if ((!all_finite(observation, (uint32_t)OBSERVATIONS)) ||
        (!all_finite(action, (uint32_t)ACTIONS))) {
        for (i = 0u; i < (uint32_t)ACTIONS; ++i) {
            action[i] = 0.0f;
        }
        result = SPARL_CHIP_NOT_FINITE;
    } else if (explore != SPARL_CHIP_EXPLOIT) {
        const bool uniform = (SPARL_CHIP_RANDOM_WARMUP != 0) && (chip->replay.warming != 0u);
        for (i = 0u; i < (uint32_t)ACTIONS; ++i) {
            /* Exploration: a = clip(pi(s) + eps, -1, 1), eps ~ N(0, sigma) */
            const float noise = SPARL_CHIP_EXPLORATION_NOISE * random_normal(&chip->exploration);
            const float noisy = clip(action[i] + noise, 1.0f);
            action[i] = uniform ? random_uniform(&chip->exploration) : noisy;
        }
    } else {
        /* the noise-free action */
    }
    return result;
}

/* The target value y of one sample of the batch. */
static void compute_target_value(sparl_chip *chip, uint32_t sample)
{
    const network_set targets = target_networks(chip);
    float *next_action = &chip->input[OBSERVATIONS];
    float reward;
    float q1;
    float q2;
    uint32_t i;

    /* Target policy smoothing: a' = clip(pi'(s') + eps, -1, 1), eps = clip(N(0, sigma), -c, c) */
    read_batch(chip, sample, (uint32_t)SLOT, 0u, (uint32_t)OBSERVATIONS, chip->input);
    policy(&targets, chip->input, &chip->actor_pass, next_action);
    for (i = 0u; i < (uint32_t)ACTIONS; ++i) {
        const float noise = SPARL_CHIP_TARGET_NOISE * random_normal(&chip->learning);
        next_action[i] = clip(next_action[i] + clip(noise, SPARL_CHIP_NOISE_CLIP), 1.0f);
    }

    /* Clipped double Q-learning: y = R + discount * min_i Q_i'(s', a') */
    forward(&targets, (uint32_t)CRITIC_1, chip->input, &chip->critic_pass, &q1);
    forward(&targets, (uint32_t)CRITIC_2, chip->input, &chip->critic_pass, &q2);
    read_batch(chip, sample, (uint32_t)REWARD, (uint32_t)REWARD, 1u, &reward);
    if (((chip->batch_terminal[sample / 32u] >> (sample % 32u)) & 1u) != 0u) {
        chip->y[sample] = reward;
    } else {
        chip->y[sample] = reward + (SPARL_CHIP_GAMMA * ((q2 < q1) ? q2 : q1));
    }
}

/* Critics: minimise sum_i mean (Q_i(s, a) - y)^2. One sample of the gradient of one critic. */
static void add_critic_gradient(sparl_chip *chip, uint32_t critic, uint32_t sample)
{
    const network_set online = online_networks(chip);
    float q;
    float d_q;
    read_batch(chip, sample, 0u, 0u, (uint32_t)SPARL_CHIP_CRITIC_INPUTS, chip->input);
    forward(&online, critic, chip->input, &chip->critic_pass, &q);
    d_q = (q - chip->y[sample]) * (2.0f / (float)SPARL_CHIP_BATCH);
    backward(chip, critic, &chip->critic_pass, &d_q);
    add_gradients(chip, critic, chip->input, &chip->critic_pass, &d_q);
}

/* Deterministic policy gradient: maximise mean Q_1(s, pi(s)). One sample of the gradient. */
static void add_actor_gradient(sparl_chip *chip, uint32_t sample)
{
    const network_set online = online_networks(chip);
    const float d_q = -1.0f / (float)SPARL_CHIP_BATCH;
    float *action = &chip->input[OBSERVATIONS];
    float q1;
    uint32_t i;
    read_batch(chip, sample, 0u, 0u, (uint32_t)OBSERVATIONS, chip->input);
    policy(&online, chip->input, &chip->actor_pass, action);
    forward(&online, (uint32_t)CRITIC_1, chip->input, &chip->critic_pass, &q1);
    backward(chip, (uint32_t)CRITIC_1, &chip->critic_pass, &d_q);
    input_gradient(&online, &places[CRITIC_1][0], chip->deltas.hidden_1, (uint32_t)OBSERVATIONS,
                   chip->action);
    for (i = 0u; i < (uint32_t)ACTIONS; ++i) {
        chip->action[i] *= 1.0f - (action[i] * action[i]); /* the derivative of tanh */
    }
    backward(chip, (uint32_t)ACTOR, &chip->actor_pass, chip->action);
    add_gradients(chip, (uint32_t)ACTOR, chip->input, &chip->actor_pass, chip->action);
}

static bool gradient_is_usable(const sparl_chip *chip, uint32_t network)
{
    const uint32_t n = parameters_of(network);
    bool result = true;
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        const float g = chip->scratch[i].number;
        if (!((g >= -1e18f) && (g <= 1e18f))) { /* also NaN; its square must be finite */
            result = false;
        }
    }
    return result;
}

static float read_moment(sparl_chip_moment moment)
{
#if SPARL_CHIP_MOMENTS == SPARL_CHIP_BFLOAT16
    sparl_chip_word x;
    x.bits = (uint32_t)moment << 16;
    return x.number;
#else
    return moment;
#endif
}

/* Round to bfloat16 up or down at random, so that the mean is exact. With rounding to the nearest,
 * a second moment could not decay: a step of Adam changes it by 0.1 %, less than half a unit. */
static sparl_chip_moment write_moment(float x, uint32_t random)
{
#if SPARL_CHIP_MOMENTS == SPARL_CHIP_BFLOAT16
    sparl_chip_word word;
    word.number = x;
    return (uint16_t)((word.bits + random) >> 16);
#else
    (void)random;
    return x;
#endif
}

/* Count a step of Adam: corrections 1 - beta^t. */
static void begin_adam_step(sparl_chip_adam *adam)
{
    adam->correction_1 += 0.1f * (1.0f - adam->correction_1);
    adam->correction_2 += 0.001f * (1.0f - adam->correction_2);
    ++adam->steps;
}

/* Adam (Kingma & Ba 2015) with beta 0.9 and 0.999, epsilon 1e-8 and L2 weight decay. */
static void adam_step(sparl_chip *chip, uint32_t network, uint32_t begin, uint32_t end)
{
    const uint32_t first = first_of(network);
    const float rate = SPARL_CHIP_LEARNING_RATE / chip->adam[network].correction_1;
    const float scale = 1.0f / chip->adam[network].correction_2;
    uint32_t i;
    for (i = begin; i < end; ++i) {
        const uint32_t p = first + i;
        const float w = chip->parameters[p];
        const float g = chip->scratch[i].number + (SPARL_CHIP_WEIGHT_DECAY * w);
        float m = read_moment(chip->m[p]);
        float v = read_moment(chip->v[p]);
        uint32_t random = 0u;
        m += 0.1f * (g - m);
        v += 0.001f * ((g * g) - v);
        chip->parameters[p] = w - ((rate * m) / (sqrtf(v * scale) + 1e-8f));
#if SPARL_CHIP_MOMENTS == SPARL_CHIP_BFLOAT16
        random = random_bits(&chip->learning);
#endif
        chip->m[p] = write_moment(m, random & 0xFFFFu);
        chip->v[p] = write_moment(v, random >> 16);
    }
}

/* Soft update of the targets: theta' = tau theta + (1 - tau) theta' */
static void soft_update(sparl_chip *chip, uint32_t begin, uint32_t end)
{
    uint32_t i;
    for (i = begin; i < end; ++i) {
        chip->target[i] += SPARL_CHIP_TAU * (chip->parameters[i] - chip->target[i]);
    }
}

/* ---- Topology updates ---- */

#if SPARL_CHIP_ROWS > 0

/* Selection sampling (Knuth): whether to take the next one of `left` candidates, of which `wanted`
 * must be taken. */
static bool take(sparl_chip_random *random, uint32_t wanted, uint32_t left)
{
    return (wanted > 0u) && (random_below(random, left) < wanted);
}

/* A random pattern with the layer's number of connections. */
static void draw_pattern(sparl_chip *chip, const layer_places *layer)
{
    uint16_t *rows = &chip->rows[layer->rows];
    sparl_chip_column *columns = &chip->columns[layer->columns];
    uint32_t left = layer->inputs * layer->outputs;
    uint32_t k = 0u;
    uint32_t o;
    uint32_t i;
    for (o = 0u; o < layer->outputs; ++o) {
        rows[o] = (uint16_t)k;
        for (i = 0u; i < layer->inputs; ++i) {
            if (take(&chip->learning, layer->connections - k, left)) {
                columns[k] = (sparl_chip_column)i;
                ++k;
            }
            --left;
        }
    }
    rows[layer->outputs] = (uint16_t)k;
}

#endif

#if SPARL_CHIP_REWIRES

/* The `capacity` smallest of the numbers that are offered, as a heap whose root is the largest.
 * Magnitudes are compared as integers, because the bits of non-negative floats are ordered. */
typedef struct {
    sparl_chip_word *words;
    uint32_t capacity, size;
} smallest;

static uint32_t magnitude(float x)
{
    sparl_chip_word word;
    word.number = x;
    return word.bits & 0x7FFFFFFFu;
}

static void offer(smallest *heap, uint32_t bits)
{
    sparl_chip_word *words = heap->words;
    uint32_t at = 0u;
    if (heap->size < heap->capacity) { /* append, and move towards the root */
        at = heap->size;
        ++heap->size;
        while ((at > 0u) && (words[(at - 1u) / 2u].bits < bits)) {
            words[at].bits = words[(at - 1u) / 2u].bits;
            at = (at - 1u) / 2u;
        }
        words[at].bits = bits;
    } else if ((heap->capacity > 0u) && (bits < words[0].bits)) { /* replace the root */
        bool placed = false;
        while (!placed) {
            uint32_t child = (2u * at) + 1u;
            if (((child + 1u) < heap->size) && (words[child].bits < words[child + 1u].bits)) {
                ++child;
            }
            if ((child < heap->size) && (words[child].bits > bits)) {
                words[at].bits = words[child].bits;
                at = child;
            } else {
                placed = true;
            }
        }
        words[at].bits = bits;
    } else {
        /* not among the smallest */
    }
}

/* The numbers that are chosen: those below a limit, and the first `ties` that equal it. */
typedef struct {
    uint32_t limit, ties;
} choice;

static choice chosen(const smallest *heap)
{
    choice result = {0u, 0u};
    uint32_t i;
    if (heap->size > 0u) {
        result.limit = heap->words[0].bits;
    }
    for (i = 0u; i < heap->size; ++i) {
        if (heap->words[i].bits == result.limit) {
            ++result.ties;
        }
    }
    return result;
}

static bool is_chosen(choice *of, uint32_t bits)
{
    bool result = false;
    if (bits < of->limit) {
        result = true;
    } else if ((bits == of->limit) && (of->ties > 0u)) {
        --of->ties;
        result = true;
    } else {
        /* it stays */
    }
    return result;
}

static bool bit_of(const sparl_chip_word *bits, uint32_t i)
{
    return ((bits[i / 32u].bits >> (i % 32u)) & 1u) != 0u;
}

static void set_bit(sparl_chip_word *bits, uint32_t i)
{
    bits[i / 32u].bits |= (uint32_t)1u << (i % 32u);
}

static void clear_bit(sparl_chip_word *bits, uint32_t i)
{
    bits[i / 32u].bits &= ~((uint32_t)1u << (i % 32u));
}

/* Bits of the connections that leave, after the first `connections` words of the scratch. */
static sparl_chip_word *leaving(sparl_chip *chip, const layer_places *layer)
{
    return &chip->scratch[layer->connections];
}

/* cos(pi p) for p in [0, 1], within 1e-6: -sin of an angle in [-pi/2, pi/2] by its series. */
static float cosine_of_half_turns(float p)
{
    const float x = 3.14159265f * (p - 0.5f);
    const float s = x * x;
    float y = -2.50521084e-8f;
    y = (y * s) + 2.75573192e-6f;
    y = (y * s) - 1.98412698e-4f;
    y = (y * s) + 8.33333333e-3f;
    y = (y * s) - 1.66666667e-1f;
    return -(((y * s) * x) + x);
}

/* The number of updates that schedules a network's topology updates: with SET, those of the
 * network; with DS, those of the agent. */
static uint32_t clock_of(const sparl_chip *chip, uint32_t network)
{
    const bool own = (SPARL_CHIP_METHOD == SPARL_CHIP_SET_TD3) && (network == (uint32_t)ACTOR);
    return own ? (chip->updates / (uint32_t)POLICY_DELAY) : chip->updates;
}

static uint32_t last_rewiring(uint32_t network)
{
    const bool own = (SPARL_CHIP_METHOD == SPARL_CHIP_SET_TD3) && (network == (uint32_t)ACTOR);
    const uint32_t last = (uint32_t)SPARL_CHIP_REWIRE_LAST;
    return own ? (last / (uint32_t)POLICY_DELAY) : last;
}

/* Whether the topology of a network changes in this update. */
static bool rewiring_is_due(const sparl_chip *chip, uint32_t network)
{
    const uint32_t now = clock_of(chip, network);
    const uint32_t last = last_rewiring(network);
    const uint32_t first = (SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3)
                               ? (uint32_t)POLICY_DELAY
                               : (uint32_t)SPARL_CHIP_REWIRE_EVERY;
    return (now >= first) && (((now - first) % (uint32_t)SPARL_CHIP_REWIRE_EVERY) == 0u) &&
           ((last == 0u) || (now <= last));
}

static float rewire_fraction(const sparl_chip *chip, uint32_t network)
{
    float fraction = SPARL_CHIP_REWIRE_FRACTION;
    const uint32_t last = last_rewiring(network);
    if ((SPARL_CHIP_METHOD == SPARL_CHIP_SET_TD3) && (last > 0u)) {
        const float progress = (float)clock_of(chip, network) / (float)last;
        fraction *= 0.5f * (1.0f + cosine_of_half_turns(progress));
    }
    return fraction;
}

#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3

static uint32_t rounded(float x)
{
    const float more = x + 0.5f;
    return (uint32_t)more;
}

#endif

/* SET: zeta N, rounded down. A product such as 0.57 * 100 is 57, regardless of its last bit. */
static uint32_t set_count(const sparl_chip *chip, uint32_t network, uint32_t connections)
{
    const float count = (rewire_fraction(chip, network) * (float)connections) + 1e-3f;
    return (uint32_t)count;
}

/* Whether a topology update replaces the network's optimiser step: SET, if any connection moves. */
static bool rewiring_replaces_step(const sparl_chip *chip, uint32_t network)
{
    bool result = false;
    if ((SPARL_CHIP_METHOD == SPARL_CHIP_SET_TD3) && (rewiring_is_due(chip, network))) {
        uint32_t l;
        for (l = 0u; l < (uint32_t)LAYERS; ++l) {
            const layer_places *layer = &places[network][l];
            if ((layer->sparse) && (set_count(chip, network, layer->connections) > 0u)) {
                result = true;
            }
        }
    }
    return result;
}

/* How many connections of a layer are dropped. */
typedef struct {
    uint32_t dead;             /* DS: those whose weight is exactly 0 */
    uint32_t smallest_of[2];   /* DS: of positive and of negative weights; SET: of all, and 0 */
} drop_counts;

static drop_counts count_dropped(const sparl_chip *chip, uint32_t network,
                                 const layer_places *layer)
{
    drop_counts counts = {0u, {0u, 0u}};
#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3
    const float *w = &chip->parameters[layer->weights];
    const uint32_t n = layer->connections;
    uint32_t positive = 0u;
    uint32_t count;
    uint32_t i;
    float live;
    for (i = 0u; i < n; ++i) {
        positive += (w[i] > 0.0f) ? 1u : 0u;
        counts.dead += (w[i] == 0.0f) ? 1u : 0u;
    }
    live = (float)n - (float)counts.dead;
    count = rounded(rewire_fraction(chip, network) * live);
    if (n > counts.dead) {
        counts.smallest_of[0] = rounded(((float)count * (float)positive) / live);
    }
    counts.smallest_of[1] = count - counts.smallest_of[0];
#else
    counts.smallest_of[0] = set_count(chip, network, layer->connections);
#endif
    return counts;
}

/* Choose the connections that are dropped, and mark them. Returns how many there are.
 *
 * SET: the weights of smallest magnitude. DS: all dead links, whose weight is exactly 0, and of
 * each sign the weights nearest zero. */
static uint32_t choose_dropped(sparl_chip *chip, uint32_t network, const layer_places *layer)
{
    const float *w = &chip->parameters[layer->weights];
    const uint32_t n = layer->connections;
    const bool signs = (SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3);
    const drop_counts counts = count_dropped(chip, network, layer);
    sparl_chip_word *bits = leaving(chip, layer);
    smallest heaps[2];
    choice drop[2];
    uint32_t i;
    heaps[0].words = chip->scratch;
    heaps[1].words = &chip->scratch[counts.smallest_of[0]];
    for (i = 0u; i < 2u; ++i) {
        heaps[i].capacity = counts.smallest_of[i];
        heaps[i].size = 0u;
    }
    for (i = 0u; i < n; ++i) {
        if (!signs || (w[i] != 0.0f)) {
            offer(&heaps[(signs && (w[i] < 0.0f)) ? 1 : 0], magnitude(w[i]));
        }
    }
    drop[0] = chosen(&heaps[0]);
    drop[1] = chosen(&heaps[1]);
    clear_bytes(bits, sizeof *bits * ((n / 32u) + 1u));
    for (i = 0u; i < n; ++i) {
        choice *of = &drop[(signs && (w[i] < 0.0f)) ? 1 : 0];
        if ((signs && (w[i] == 0.0f)) || is_chosen(of, magnitude(w[i]))) {
            set_bit(bits, i);
        }
    }
    return counts.dead + counts.smallest_of[0] + counts.smallest_of[1];
}

/* Grow: draw positions among all that are free after the drop, in the rows from `begin` to `end`.
 *
 * A dropped connection that is drawn never left and keeps its values. The others are listed in the
 * scratch as 65536 * row + column. */
static void choose_grown(sparl_chip *chip, const layer_places *layer, uint32_t begin, uint32_t end)
{
    sparl_chip_progress *progress = &chip->progress;
    sparl_chip_word *bits = leaving(chip, layer);
    const uint16_t *rows = &chip->rows[layer->rows];
    const sparl_chip_column *columns = &chip->columns[layer->columns];
    uint32_t o;
    uint32_t i;
    for (o = begin; o < end; ++o) {
        uint32_t k = rows[o];
        for (i = 0u; i < layer->inputs; ++i) {
            const bool exists = (k < rows[o + 1u]) && (columns[k] == i);
            if ((!exists) || bit_of(bits, k)) { /* the position is free */
                if (take(&chip->learning, progress->grow, progress->free_left)) {
                    --progress->grow;
                    if (exists) {
                        clear_bit(bits, k);
                    } else {
                        chip->scratch[progress->grown].bits = (o << 16) | i;
                        ++progress->grown;
                    }
                }
                --progress->free_left;
            }
            if (exists) {
                ++k;
            }
        }
    }
}

/* Move a connection and everything that belongs to it. */
static void move_connection(sparl_chip *chip, const layer_places *layer, uint32_t from, uint32_t to)
{
    const uint32_t f = layer->weights + from;
    const uint32_t t = layer->weights + to;
    chip->parameters[t] = chip->parameters[f];
    chip->m[t] = chip->m[f];
    chip->v[t] = chip->v[f];
    chip->columns[layer->columns + to] = chip->columns[layer->columns + from];
#if !SPARL_CHIP_OWN_TARGETS
    chip->target[t] = chip->target[f];
#endif
}

#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3

/* Means of the second moments of a layer, from which those of grown connections are estimated
 * (Shazeer & Stern 2018): per input and per output, in the scratch. An input or an output without
 * connections gets the mean of the layer. */
typedef struct {
    sparl_chip_word *by_input, *by_output;
    float mean;
} moment_means;

static moment_means mean_moments(sparl_chip *chip, const layer_places *layer)
{
    const uint16_t *rows = &chip->rows[layer->rows];
    const sparl_chip_column *columns = &chip->columns[layer->columns];
    const sparl_chip_moment *v = &chip->v[layer->weights];
    sparl_chip_word *counts;
    moment_means means;
    float total = 0.0f;
    uint32_t o;
    uint32_t i;
    means.by_input = &leaving(chip, layer)[(layer->connections / 32u) + 1u];
    counts = &means.by_input[layer->inputs];
    means.by_output = &counts[layer->inputs];
    for (i = 0u; i < layer->inputs; ++i) {
        means.by_input[i].number = 0.0f;
        counts[i].bits = 0u;
    }
    for (o = 0u; o < layer->outputs; ++o) {
        float sum = 0.0f;
        for (i = rows[o]; i < rows[o + 1u]; ++i) {
            const float x = read_moment(v[i]);
            sum += x;
            means.by_input[columns[i]].number += x;
            ++counts[columns[i]].bits;
        }
        means.by_output[o].number = sum;
        total += sum;
    }
    means.mean = total / (float)layer->connections;
    for (o = 0u; o < layer->outputs; ++o) {
        const uint32_t n = (uint32_t)rows[o + 1u] - (uint32_t)rows[o];
        means.by_output[o].number =
            (n > 0u) ? (means.by_output[o].number / (float)n) : means.mean;
    }
    for (i = 0u; i < layer->inputs; ++i) {
        const uint32_t n = counts[i].bits;
        means.by_input[i].number = (n > 0u) ? (means.by_input[i].number / (float)n) : means.mean;
    }
    return means;
}

#endif

/* How many connections from `begin` to `end` stay. */
static uint32_t count_kept(const sparl_chip_word *bits, uint32_t begin, uint32_t end)
{
    uint32_t kept = 0u;
    uint32_t k;
    for (k = begin; k < end; ++k) {
        kept += bit_of(bits, k) ? 0u : 1u;
    }
    return kept;
}

/* A grown connection has weight and first moment 0, and the second moment `v`. */
static void write_grown(sparl_chip *chip, const layer_places *layer, uint32_t k, uint32_t column,
                        float v)
{
    const uint32_t at = layer->weights + k;
    chip->columns[layer->columns + k] = (sparl_chip_column)column;
    chip->parameters[at] = 0.0f;
    chip->m[at] = write_moment(0.0f, 0u);
    chip->v[at] = write_moment(v, 0x8000u);
#if !SPARL_CHIP_OWN_TARGETS
    chip->target[at] = 0.0f;
#endif
}

/* Carry out the change of a layer's pattern: dropped connections leave, the listed ones come.
 *
 * The kept connections are moved to the end and back, merged with the grown ones. */
static void rewire_layer(sparl_chip *chip, const layer_places *layer)
{
    const sparl_chip_word *bits = leaving(chip, layer);
    uint16_t *rows = &chip->rows[layer->rows];
    const uint32_t grown = chip->progress.grown;
    uint32_t read = layer->connections;
    uint32_t write = 0u;
    uint32_t next = 0u; /* of the grown connections */
    uint32_t begin = 0u;
    uint32_t k;
    uint32_t o;
#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3
    const moment_means means = mean_moments(chip, layer);
#endif
    for (k = layer->connections; k > 0u; --k) {
        if (!bit_of(bits, k - 1u)) {
            --read;
            move_connection(chip, layer, k - 1u, read);
        }
    }
    for (o = 0u; o < layer->outputs; ++o) {
        const uint32_t end = rows[o + 1u];
        uint32_t kept = count_kept(bits, begin, end); /* of this row, still to be moved back */
        begin = end;
        rows[o] = (uint16_t)write;
        while ((kept > 0u) || ((next < grown) && ((chip->scratch[next].bits >> 16) == o))) {
            const uint32_t column = (next < grown) ? (chip->scratch[next].bits & 0xFFFFu) : 0u;
            const bool grows = (next < grown) && ((chip->scratch[next].bits >> 16) == o) &&
                               ((kept == 0u) || (column < chip->columns[layer->columns + read]));
            if (grows) {
                float v = 0.0f;
#if SPARL_CHIP_METHOD == SPARL_CHIP_DS_TD3
                if (means.mean > 0.0f) {
                    v = (means.by_output[o].number * means.by_input[column].number) / means.mean;
                }
#endif
                write_grown(chip, layer, write, column, v);
                ++next;
            } else {
                move_connection(chip, layer, read, write);
                ++read;
                --kept;
            }
            ++write;
        }
    }
    rows[layer->outputs] = (uint16_t)write;
}

#endif

#if SPARL_CHIP_OWN_TARGETS

/* DS algorithm 3: a target has its own pattern, which keeps the largest magnitudes.
 *
 * A walk over the union of the connections of a target layer and of the online layer, in order. */
typedef struct {
    uint32_t row;
    uint32_t target, online;         /* the next connection of either */
    uint32_t target_at, online_at;   /* the current connection in either ... */
    bool in_target, in_online;       /* ... if it exists there */
} union_walk;

static bool next_in_union(const sparl_chip *chip, const layer_places *layer, union_walk *walk)
{
    const uint16_t *target_rows = &chip->target_rows[layer->rows];
    const uint16_t *online_rows = &chip->rows[layer->rows];
    bool found = false;
    while (!found && (walk->row < layer->outputs)) {
        const bool target_left = walk->target < target_rows[walk->row + 1u];
        const bool online_left = walk->online < online_rows[walk->row + 1u];
        uint32_t t = 0x10000u; /* columns; 0x10000 is after all of them */
        uint32_t o = 0x10000u;
        if (target_left) {
            t = chip->target_columns[layer->columns + walk->target];
        }
        if (online_left) {
            o = chip->columns[layer->columns + walk->online];
        }
        if ((!target_left) && (!online_left)) {
            ++walk->row;
        } else {
            found = true;
            walk->in_target = t <= o;
            walk->in_online = o <= t;
            walk->target_at = walk->target;
            walk->online_at = walk->online;
            walk->target += walk->in_target ? 1u : 0u;
            walk->online += walk->in_online ? 1u : 0u;
        }
    }
    return found;
}

/* Update the values of a target layer, and count the connections that only the online layer has
 * and whose value is not 0. */
static uint32_t update_target_values(sparl_chip *chip, const layer_places *layer)
{
    union_walk walk = {0u, 0u, 0u, 0u, 0u, false, false};
    uint32_t arrivals = 0u;
    while (next_in_union(chip, layer, &walk)) {
        const float w = walk.in_online
                            ? chip->parameters[layer->weights + walk.online_at]
                            : 0.0f;
        if (walk.in_target) {
            float *theta = &chip->target[layer->weights + walk.target_at];
            *theta += SPARL_CHIP_TAU * (w - *theta);
        } else if ((SPARL_CHIP_TAU * w) != 0.0f) {
            ++arrivals;
        } else {
            /* a dead link */
        }
    }
    return arrivals;
}

/* The value of the current connection of a walk, after `update_target_values`. */
static float value_in_union(const sparl_chip *chip, const layer_places *layer,
                            const union_walk *walk)
{
    return walk->in_target
               ? chip->target[layer->weights + walk->target_at]
               : (SPARL_CHIP_TAU * chip->parameters[layer->weights + walk->online_at]);
}

/* Which magnitudes of the union are the `surplus` smallest ones. */
static choice smallest_of_union(sparl_chip *chip, const layer_places *layer, uint32_t surplus)
{
    smallest heap;
    union_walk walk = {0u, 0u, 0u, 0u, 0u, false, false};
    heap.words = chip->scratch;
    heap.capacity = surplus;
    heap.size = 0u;
    while ((surplus > 0u) && next_in_union(chip, layer, &walk)) {
        const float x = value_in_union(chip, layer, &walk);
        if (walk.in_target || (x != 0.0f)) {
            offer(&heap, magnitude(x));
        }
    }
    return chosen(&heap);
}

/* Keep the other magnitudes of the union. Connections of the target that leave are marked; those
 * that arrive are listed in the scratch by their places in the online layer. Returns how many
 * arrive, and in `left` how many leave. */
static uint32_t choose_target_connections(sparl_chip *chip, const layer_places *layer,
                                          choice removed, uint32_t *left)
{
    sparl_chip_word *bits = leaving(chip, layer);
    choice remaining = removed;
    uint32_t arrive = 0u;
    union_walk walk = {0u, 0u, 0u, 0u, 0u, false, false};
    clear_bytes(bits, sizeof *bits * ((layer->connections / 32u) + 1u));
    while (next_in_union(chip, layer, &walk)) {
        const float x = value_in_union(chip, layer, &walk);
        if (walk.in_target) {
            if (is_chosen(&remaining, magnitude(x))) {
                set_bit(bits, walk.target_at);
                ++*left;
            }
        } else if ((x != 0.0f) && !is_chosen(&remaining, magnitude(x))) {
            chip->scratch[arrive].bits = walk.online_at;
            ++arrive;
        } else {
            /* it does not exist in the target */
        }
    }
    return arrive;
}

static void move_target(sparl_chip *chip, const layer_places *layer, uint32_t from, uint32_t to)
{
    chip->target[layer->weights + to] = chip->target[layer->weights + from];
    chip->target_columns[layer->columns + to] = chip->target_columns[layer->columns + from];
}

/* Carry out the change of a target layer's pattern; see `rewire_layer`. */
static void rewire_target(sparl_chip *chip, const layer_places *layer, uint32_t arrive)
{
    const sparl_chip_word *bits = leaving(chip, layer);
    uint16_t *rows = &chip->target_rows[layer->rows];
    const uint16_t *online_rows = &chip->rows[layer->rows];
    uint32_t read = layer->connections;
    uint32_t write = 0u;
    uint32_t next = 0u;
    uint32_t begin = 0u;
    uint32_t k;
    uint32_t o;
    for (k = rows[layer->outputs]; k > 0u; --k) {
        if (!bit_of(bits, k - 1u)) {
            --read;
            move_target(chip, layer, k - 1u, read);
        }
    }
    for (o = 0u; o < layer->outputs; ++o) {
        const uint32_t end = rows[o + 1u];
        uint32_t kept = count_kept(bits, begin, end);
        begin = end;
        rows[o] = (uint16_t)write;
        while ((kept > 0u) ||
               ((next < arrive) && (chip->scratch[next].bits < online_rows[o + 1u]))) {
            const uint32_t online = (next < arrive) ? chip->scratch[next].bits : 0u;
            const bool arrives =
                (next < arrive) && (online < online_rows[o + 1u]) &&
                ((kept == 0u) || (chip->columns[layer->columns + online] <
                                  chip->target_columns[layer->columns + read]));
            if (arrives) {
                chip->target_columns[layer->columns + write] =
                    chip->columns[layer->columns + online];
                chip->target[layer->weights + write] =
                    SPARL_CHIP_TAU * chip->parameters[layer->weights + online];
                ++next;
            } else {
                move_target(chip, layer, read, write);
                ++read;
                --kept;
            }
            ++write;
        }
    }
    rows[layer->outputs] = (uint16_t)write;
}

/* The soft update of one layer of a target has up to four slices. Returns the next one. */
enum { SOFT_VALUES, SOFT_SELECT, SOFT_CHOOSE, SOFT_REWIRE, SOFT_DONE };

static uint32_t update_target_layer(sparl_chip *chip, const layer_places *layer, uint32_t step)
{
    sparl_chip_progress *progress = &chip->progress;
    uint32_t next = (uint32_t)SOFT_DONE;
    uint32_t left = 0u;
    if (step == (uint32_t)SOFT_VALUES) {
        progress->grow = 0u;
        if (layer->sparse) {
            progress->grow = update_target_values(chip, layer); /* those that may arrive */
        } else {
            soft_update(chip, layer->weights, layer->biases);
        }
        soft_update(chip, layer->biases, layer->biases + layer->outputs);
        if (progress->grow > 0u) {
            next = (uint32_t)SOFT_SELECT;
        }
    } else if (step == (uint32_t)SOFT_SELECT) {
        const uint32_t existing = chip->target_rows[layer->rows + layer->outputs];
        const uint32_t in_union = existing + progress->grow;
        const choice removed = smallest_of_union(
            chip, layer, (in_union > layer->connections) ? (in_union - layer->connections) : 0u);
        progress->grown = removed.limit; /* kept here until the next slice */
        progress->free_left = removed.ties;
        next = (uint32_t)SOFT_CHOOSE;
    } else if (step == (uint32_t)SOFT_CHOOSE) {
        choice removed;
        removed.limit = progress->grown;
        removed.ties = progress->free_left;
        progress->grow = choose_target_connections(chip, layer, removed, &left);
        if ((progress->grow > 0u) || (left > 0u)) {
            next = (uint32_t)SOFT_REWIRE;
        }
    } else {
        rewire_target(chip, layer, progress->grow);
    }
    return next;
}

#endif

/* ---- Slices ---- */

enum {
    PHASE_PICK,     /* pick a batch; this begins an update */
    PHASE_TARGETS,  /* y of the samples, one per slice */
    PHASE_GRADIENT, /* the gradient of a network, one sample per slice */
    PHASE_CHECK,    /* whether the gradient is finite and within +-1e18 */
    PHASE_ADAM,     /* a step of the optimiser, SLICE parameters at a time */
    PHASE_DROP,     /* topology update of a layer: choose what is dropped, ... */
    PHASE_GROW,     /* ... what is grown, about SLICE positions at a time, ... */
    PHASE_REWIRE,   /* ... and change the pattern */
    PHASE_SOFT      /* update the targets: SLICE parameters or, with DS, a pass over a layer */
};

enum { SLICE = 256 };

/* The index after the last one of a slice of at most `most`, of `n` in all. */
static uint32_t end_of_slice(uint32_t begin, uint32_t most, uint32_t n)
{
    return ((n - begin) > most) ? (begin + most) : n;
}

static void enter(sparl_chip *chip, int phase)
{
    chip->progress.phase = (uint32_t)phase;
    chip->progress.cursor = 0u;
}

/* Begin with the gradient of a network, or with its topology update if that replaces the step. */
static void begin_network(sparl_chip *chip, uint32_t network)
{
    chip->progress.network = network;
    chip->progress.layer = 0u;
    clear_bytes(chip->scratch, (size_t)parameters_of(network) * sizeof chip->scratch[0]);
    enter(chip, PHASE_GRADIENT);
#if SPARL_CHIP_REWIRES
    if (rewiring_replaces_step(chip, network)) {
        enter(chip, PHASE_DROP);
    }
#endif
}

/* Critic 1, critic 2 and, every POLICY_DELAY-th time, the actor and the targets. */
static int end_network(sparl_chip *chip)
{
    int result = SPARL_CHIP_OK;
    if (chip->progress.network == (uint32_t)CRITIC_1) {
        begin_network(chip, (uint32_t)CRITIC_2);
    } else if (chip->progress.network == (uint32_t)ACTOR) {
        chip->progress.network = 0u;
        chip->progress.layer = 0u;
        enter(chip, PHASE_SOFT);
    } else if ((chip->updates % (uint32_t)POLICY_DELAY) == 0u) {
        begin_network(chip, (uint32_t)ACTOR);
    } else {
        enter(chip, PHASE_PICK);
        result = SPARL_CHIP_UPDATED;
    }
    return result;
}

static int slice_pick(sparl_chip *chip)
{
    int result = SPARL_CHIP_OK;
    if (chip->replay.warming != 0u) {
        result = SPARL_CHIP_WAITING;
#if SPARL_CHIP_REPLAY == SPARL_CHIP_INT8
    } else if (chip->replay.converted < (uint32_t)WARMUP) {
        uint32_t k;
        for (k = 0u; (k < 16u) && (chip->replay.converted < (uint32_t)WARMUP); ++k) {
            convert_slot(&chip->replay);
        }
#endif
    } else {
        ++chip->updates;
        pick_batch(chip);
        enter(chip, PHASE_TARGETS);
    }
    return result;
}

static void slice_targets(sparl_chip *chip)
{
    compute_target_value(chip, chip->progress.cursor);
    ++chip->progress.cursor;
    if (chip->progress.cursor == (uint32_t)BATCH) {
        begin_network(chip, (uint32_t)CRITIC_1);
    }
}

static void slice_gradient(sparl_chip *chip)
{
    if (chip->progress.network == (uint32_t)ACTOR) {
        add_actor_gradient(chip, chip->progress.cursor);
    } else {
        add_critic_gradient(chip, chip->progress.network, chip->progress.cursor);
    }
    ++chip->progress.cursor;
    if (chip->progress.cursor == (uint32_t)BATCH) {
        enter(chip, PHASE_CHECK);
    }
}

static int slice_check(sparl_chip *chip)
{
    const uint32_t network = chip->progress.network;
    int result = SPARL_CHIP_OK;
    if (gradient_is_usable(chip, network)) {
        begin_adam_step(&chip->adam[network]);
        enter(chip, PHASE_ADAM);
    } else {
        enter(chip, PHASE_PICK);
        result = SPARL_CHIP_DIVERGED;
    }
    return result;
}

static int slice_adam(sparl_chip *chip)
{
    sparl_chip_progress *progress = &chip->progress;
    const uint32_t n = parameters_of(progress->network);
    const uint32_t begin = progress->cursor;
    const uint32_t end = end_of_slice(begin, (uint32_t)SLICE, n);
    int result = SPARL_CHIP_OK;
    adam_step(chip, progress->network, begin, end);
    progress->cursor = end;
    if (end == n) {
#if SPARL_CHIP_OWN_TARGETS
        if (rewiring_is_due(chip, progress->network)) {
            enter(chip, PHASE_DROP);
        } else
#endif
        {
            result = end_network(chip);
        }
    }
    return result;
}

#if SPARL_CHIP_REWIRES

static int end_layer(sparl_chip *chip)
{
    int result = SPARL_CHIP_OK;
    ++chip->progress.layer;
    if (chip->progress.layer < (uint32_t)LAYERS) {
        enter(chip, PHASE_DROP);
    } else {
        result = end_network(chip);
    }
    return result;
}

static int slice_drop(sparl_chip *chip)
{
    sparl_chip_progress *progress = &chip->progress;
    const layer_places *layer = &places[progress->network][progress->layer];
    int result = SPARL_CHIP_OK;
    progress->grow = 0u;
    if (layer->sparse) {
        progress->grow = choose_dropped(chip, progress->network, layer);
    }
    if (progress->grow > 0u) {
        progress->grown = 0u;
        progress->free_left =
            ((layer->inputs * layer->outputs) - layer->connections) + progress->grow;
        enter(chip, PHASE_GROW);
    } else {
        result = end_layer(chip);
    }
    return result;
}

static void slice_grow(sparl_chip *chip)
{
    sparl_chip_progress *progress = &chip->progress;
    const layer_places *layer = &places[progress->network][progress->layer];
    const uint32_t begin = progress->cursor;
    const uint32_t rows = ((uint32_t)SLICE / layer->inputs) + 1u;
    const uint32_t end = end_of_slice(begin, rows, layer->outputs);
    choose_grown(chip, layer, begin, end);
    progress->cursor = end;
    if (end == layer->outputs) {
        enter(chip, PHASE_REWIRE);
    }
}

static int slice_rewire(sparl_chip *chip)
{
    rewire_layer(chip, &places[chip->progress.network][chip->progress.layer]);
    return end_layer(chip);
}

#endif

static int slice_soft(sparl_chip *chip)
{
    sparl_chip_progress *progress = &chip->progress;
    int result = SPARL_CHIP_OK;
#if SPARL_CHIP_OWN_TARGETS
    progress->cursor = update_target_layer(chip, &places[progress->network][progress->layer],
                                           progress->cursor);
    if (progress->cursor == (uint32_t)SOFT_DONE) {
        progress->cursor = (uint32_t)SOFT_VALUES;
        ++progress->layer;
        if (progress->layer == (uint32_t)LAYERS) {
            progress->layer = 0u;
            ++progress->network;
        }
        if (progress->network == (uint32_t)NETWORKS) {
            result = SPARL_CHIP_UPDATED;
        }
    }
#else
    const uint32_t n = (uint32_t)SPARL_CHIP_PARAMETERS;
    const uint32_t begin = progress->cursor;
    const uint32_t end = end_of_slice(begin, (uint32_t)SLICE, n);
    soft_update(chip, begin, end);
    progress->cursor = end;
    if (end == n) {
        result = SPARL_CHIP_UPDATED;
    }
#endif
    if (result == SPARL_CHIP_UPDATED) {
        enter(chip, PHASE_PICK);
    }
    return result;
}

static int slice(sparl_chip *chip)
{
    int result = SPARL_CHIP_OK;
    switch (chip->progress.phase) {
    case PHASE_PICK:
        result = slice_pick(chip);
        break;
    case PHASE_TARGETS:
        slice_targets(chip);
        break;
    case PHASE_GRADIENT:
        slice_gradient(chip);
        break;
    case PHASE_CHECK:
        result = slice_check(chip);
        break;
    case PHASE_ADAM:
        result = slice_adam(chip);
        break;
#if SPARL_CHIP_REWIRES
    case PHASE_DROP:
        result = slice_drop(chip);
        break;
    case PHASE_GROW:
        slice_grow(chip);
        break;
    case PHASE_REWIRE:
        result = slice_rewire(chip);
        break;
#endif
    default:
        result = slice_soft(chip);
        break;
    }
    return result;
}

int sparl_chip_work(sparl_chip *chip, uint32_t budget)
{
    int result = SPARL_CHIP_OK;
    uint32_t left = budget;
    while ((left > 0u) && (result == SPARL_CHIP_OK)) {
        result = slice(chip);
        --left;
    }
    return result;
}

void sparl_chip_init(sparl_chip *chip, uint32_t seed)
{
    uint32_t network;
    uint32_t l;
    uint32_t k;
    clear_bytes(chip, sizeof *chip);
    seed_random(&chip->exploration, seed, 1u);
    seed_random(&chip->learning, seed, 2u);
    for (network = 0u; network < (uint32_t)NETWORKS; ++network) {
        for (l = 0u; l < (uint32_t)LAYERS; ++l) {
            const layer_places *layer = &places[network][l];
            const float bound = 1.0f / sqrtf((float)layer->inputs);
#if SPARL_CHIP_ROWS > 0
            if (layer->sparse) {
                draw_pattern(chip, layer);
            }
#endif
            for (k = layer->weights; k < (layer->biases + layer->outputs); ++k) {
                chip->parameters[k] = bound * random_uniform(&chip->learning);
            }
        }
    }
    (void)memcpy(chip->target, chip->parameters, sizeof chip->target);
#if SPARL_CHIP_OWN_TARGETS
    (void)memcpy(chip->target_rows, chip->rows, sizeof chip->target_rows);
    (void)memcpy(chip->target_columns, chip->columns, sizeof chip->target_columns);
#endif
    empty_replay(&chip->replay);
}

/* ---- Saving ---- */

enum { MAGIC = 0x48435053 }; /* "SPCH" in memory */
enum { WORDS = SPARL_CHIP_SIZES + 6 };
enum { AT_MAGIC, AT_FORMAT, AT_WHAT, AT_BYTES, AT_SIZES };
enum { AT_PAYLOAD_SUM = WORDS - 2, AT_HEADER_SUM = WORDS - 1 };

static const uint32_t sizes[SPARL_CHIP_SIZES] = {
    SPARL_CHIP_OBSERVATIONS,         SPARL_CHIP_ACTIONS,
    SPARL_CHIP_HIDDEN_1,             SPARL_CHIP_HIDDEN_2,
    SPARL_CHIP_METHOD,               SPARL_CHIP_ACTOR_CONNECTIONS_1,
    SPARL_CHIP_ACTOR_CONNECTIONS_2,  SPARL_CHIP_ACTOR_CONNECTIONS_3,
    SPARL_CHIP_CRITIC_CONNECTIONS_1, SPARL_CHIP_CRITIC_CONNECTIONS_2,
    SPARL_CHIP_CRITIC_CONNECTIONS_3, SPARL_CHIP_REPLAY,
    SPARL_CHIP_MOMENTS,              SPARL_CHIP_CAPACITY,
    SPARL_CHIP_WARMUP,               SPARL_CHIP_BATCH,
    SPARL_CHIP_COLUMN_BYTES,         SPARL_CHIP_SCRATCH,
    SPARL_CHIP_AGENT_RAM,            SPARL_CHIP_REPLAY_RAM};

/* CRC-32 (IEEE 802.3), four bits at a time; begin with 0. */
static uint32_t checksum(uint32_t sum, const uint8_t *bytes, uint32_t n)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
        0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
        0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    uint32_t crc = ~sum;
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

static uint32_t header_sum(const uint32_t *header)
{
    return checksum(0u, (const uint8_t *)header, 4u * (uint32_t)AT_HEADER_SUM);
}

static uint32_t payload_bytes(uint32_t what)
{
    return (what == (uint32_t)SPARL_CHIP_AGENT) ? (uint32_t)SPARL_CHIP_AGENT_RAM
                                                : (uint32_t)SPARL_CHIP_RAM;
}

int sparl_chip_save(const sparl_chip *chip, int what, sparl_chip_writer write, void *storage)
{
    const uint32_t kind = (uint32_t)((what == SPARL_CHIP_AGENT) ? SPARL_CHIP_AGENT
                                                                : SPARL_CHIP_AGENT_AND_REPLAY);
    const uint32_t bytes = payload_bytes(kind);
    uint32_t header[WORDS];
    int result = SPARL_CHIP_OK;
    header[AT_MAGIC] = (uint32_t)MAGIC;
    header[AT_FORMAT] = SPARL_CHIP_FORMAT;
    header[AT_WHAT] = kind;
    header[AT_BYTES] = bytes;
    (void)memcpy(&header[AT_SIZES], sizes, sizeof sizes);
    header[AT_PAYLOAD_SUM] = checksum(0u, (const uint8_t *)chip, bytes);
    header[AT_HEADER_SUM] = header_sum(header);
    if ((write(storage, 0u, header, (uint32_t)sizeof header) != 0) ||
        (write(storage, (uint32_t)sizeof header, chip, bytes) != 0)) {
        result = SPARL_CHIP_IO;
    }
    return result;
}

static bool same_sizes(const uint32_t *of_block)
{
    bool result = true;
    uint32_t i;
    for (i = 0u; i < (uint32_t)SPARL_CHIP_SIZES; ++i) {
        if (of_block[i] != sizes[i]) {
            result = false;
        }
    }
    return result;
}

static int check_header(const uint32_t *header)
{
    int result = SPARL_CHIP_OK;
    if (header[AT_MAGIC] != (uint32_t)MAGIC) {
        result = SPARL_CHIP_FOREIGN;
    } else if (header[AT_FORMAT] != SPARL_CHIP_FORMAT) {
        result = SPARL_CHIP_VERSION;
    } else if (header_sum(header) != header[AT_HEADER_SUM]) {
        result = SPARL_CHIP_DAMAGED;
    } else if ((!same_sizes(&header[AT_SIZES])) ||
               (header[AT_WHAT] > (uint32_t)SPARL_CHIP_AGENT_AND_REPLAY) ||
               (header[AT_BYTES] != payload_bytes(header[AT_WHAT]))) {
        result = SPARL_CHIP_FOREIGN;
    } else {
        /* a block that belongs to this program */
    }
    return result;
}

/* Compare the checksum of a payload, which is read in parts of 64 bytes, with the header's. */
static int check_payload(const uint32_t *header, sparl_chip_reader read, void *storage)
{
    const uint32_t bytes = header[AT_BYTES];
    uint8_t piece[64];
    uint32_t sum = 0u;
    uint32_t at = 0u;
    int result = SPARL_CHIP_OK;
    while ((at < bytes) && (result == SPARL_CHIP_OK)) {
        const uint32_t left = bytes - at;
        const uint32_t n = (left < (uint32_t)sizeof piece) ? left : (uint32_t)sizeof piece;
        if (read(storage, (uint32_t)SPARL_CHIP_HEADER_BYTES + at, piece, n) == 0) {
            sum = checksum(sum, piece, n);
            at += n;
        } else {
            result = SPARL_CHIP_IO;
        }
    }
    if ((result == SPARL_CHIP_OK) && (sum != header[AT_PAYLOAD_SUM])) {
        result = SPARL_CHIP_DAMAGED;
    }
    return result;
}

int sparl_chip_load(sparl_chip *chip, sparl_chip_reader read, void *storage)
{
    uint32_t header[WORDS];
    int result = SPARL_CHIP_IO;
    if (read(storage, 0u, header, (uint32_t)sizeof header) == 0) {
        result = check_header(header);
    }
    if (result == SPARL_CHIP_OK) {
        result = check_payload(header, read, storage);
    }
    if (result == SPARL_CHIP_OK) {
        const uint32_t bytes = header[AT_BYTES];
        if (read(storage, (uint32_t)SPARL_CHIP_HEADER_BYTES, chip, bytes) != 0) {
            result = SPARL_CHIP_IO;
        } else if (checksum(0u, (const uint8_t *)chip, bytes) != header[AT_PAYLOAD_SUM]) {
            result = SPARL_CHIP_DAMAGED;
        } else if (header[AT_WHAT] == (uint32_t)SPARL_CHIP_AGENT) {
            empty_replay(&chip->replay);
            if (chip->progress.phase != (uint32_t)PHASE_SOFT) {
                enter(chip, PHASE_PICK); /* the batch cannot be decoded without the replay */
            }
        } else {
            /* the whole state has been loaded */
        }
    }
    return result;
}
