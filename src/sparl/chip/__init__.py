"""Agents that learn on a microcontroller: the states of chip/sparl_chip.c, read and written."""
