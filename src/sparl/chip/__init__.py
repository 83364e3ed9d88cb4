"""Read and write the states of agents that learn on a microcontroller with chip/sparl_chip.c."""
