"""Modules that hold names and nothing else."""

from __future__ import annotations

import logging

import kazoo.loggingsupport
import kazoo.version

from terzetto.client.kazoo import interfaces, loggingsupport, version
from terzetto.client.kazoo.handlers.threading import AsyncResult, SequentialThreadingHandler


def test_their_names_are_kazoos() -> None:
    assert version.__version__.startswith("2.11.")
    assert kazoo.version.__version__.startswith("2.")
    assert loggingsupport.BLATHER == kazoo.loggingsupport.BLATHER
    assert logging.getLevelName(loggingsupport.BLATHER) == "BLATHER"
    assert interfaces.IHandler is SequentialThreadingHandler
    assert interfaces.IAsyncResult is AsyncResult
