"""terzetto, kazoo and ZooKeeper's C client side by side, on the same server in one run: `python -m tests.benchmarks`.

`workloads` says what is measured and which goals there are, `drive_terzetto`, `drive_kazoo` and `c_client.c` do it (one
process each time), `rounds` interleaves them, `results` holds the arithmetic, `report` and `picture` show it.
"""
