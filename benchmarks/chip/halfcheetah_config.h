/* The configuration of chip/sparl_chip_config.h with the sizes of an agent for HalfCheetah.
 * SPDX-License-Identifier: MIT-0
 *
 * The networks are 95 % sparse, with the Erdos-Renyi rule over all layers, which makes the critics'
 * last layers dense. */
#ifndef HALFCHEETAH_CONFIG_H
#define HALFCHEETAH_CONFIG_H

#include "sparl_chip_config.h"

#undef SPARL_CHIP_OBSERVATIONS
#define SPARL_CHIP_OBSERVATIONS 17
#undef SPARL_CHIP_ACTIONS
#define SPARL_CHIP_ACTIONS 6
#undef SPARL_CHIP_HIDDEN_1
#define SPARL_CHIP_HIDDEN_1 256
#undef SPARL_CHIP_HIDDEN_2
#define SPARL_CHIP_HIDDEN_2 256

#if SPARL_CHIP_METHOD != SPARL_CHIP_TD3
#undef SPARL_CHIP_ACTOR_CONNECTIONS_1
#define SPARL_CHIP_ACTOR_CONNECTIONS_1 932
#undef SPARL_CHIP_ACTOR_CONNECTIONS_2
#define SPARL_CHIP_ACTOR_CONNECTIONS_2 1747
#undef SPARL_CHIP_ACTOR_CONNECTIONS_3
#define SPARL_CHIP_ACTOR_CONNECTIONS_3 894
#undef SPARL_CHIP_CRITIC_CONNECTIONS_1
#define SPARL_CHIP_CRITIC_CONNECTIONS_1 1174
#undef SPARL_CHIP_CRITIC_CONNECTIONS_2
#define SPARL_CHIP_CRITIC_CONNECTIONS_2 2155
#undef SPARL_CHIP_CRITIC_CONNECTIONS_3
#define SPARL_CHIP_CRITIC_CONNECTIONS_3 256
#endif

#endif
