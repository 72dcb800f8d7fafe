# The package needs a C library, so it is not there wherever types are checked: whatever comes from it is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
