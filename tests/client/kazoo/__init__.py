"""Tests of the blocking drop-in: kazoo itself is the reference wherever it can be."""
