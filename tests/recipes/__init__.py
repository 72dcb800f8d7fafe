"""Tests of `terzetto.recipes`: whole clients on memory streams and virtual time, servers of the tests' own or embedded.

`walking` cancels a recipe at each of its checkpoints, `losing` takes the connection at each of its requests.
"""
