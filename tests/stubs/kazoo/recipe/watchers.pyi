# kazoo ships no annotations: whatever comes from it is Any, said once here instead of at every use.
from typing import Any

def __getattr__(name: str) -> Any: ...
