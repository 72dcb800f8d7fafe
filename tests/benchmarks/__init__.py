"""terzetto beside others, in one run: `python -m tests.benchmarks`.

Clients (terzetto, kazoo, ZooKeeper's C client) on the same server: `workloads` says what is measured and which goals
there are, `drive_terzetto`, `drive_kazoo` and `c_client.c` do it (one process each time), `rounds` interleaves them.
Their recipes, where they have any: `recipe_workloads`, `recipe_contenders`, `drive_terzetto_recipes`,
`drive_kazoo_recipes`.
Servers (terzetto's, Java's) under the same load: `server_workloads`, `server_kinds` and `ensemble_kinds`, `load.c`,
`server_rounds`. `results` holds the arithmetic, `report`, `server_report` and `picture` show it.
"""
