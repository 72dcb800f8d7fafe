"""Deterministic simulations of the ensemble: a seed draws everything, and the same seed is the same run.

Here the servers' own state machines run on simulated time, network and disk, with checkers outside of them.
docs/design/simulation.md says what is drawn and what is checked.
"""
