"""kazoo's log level below DEBUG."""

from __future__ import annotations

import logging

BLATHER = 5
"""Level of kazoo's most talkative messages; the drop-in itself logs nothing at it."""

logging.addLevelName(BLATHER, "BLATHER")
