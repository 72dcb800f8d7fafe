"""How callbacks and results reach a program's threads, by kazoo's module names. No gevent, no eventlet."""
