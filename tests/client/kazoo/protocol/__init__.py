"""Tests of the protocol modules."""
