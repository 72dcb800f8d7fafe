"""What Curator does on both servers: one script a recipe, for two processes.

A line is "1 COMMAND" or "2 COMMAND" for the process that is told (see `CuratorPeer`). "1+" sends a command and goes on,
"1- NAME" takes the answer to it; "1~" sorts the parts of a list that has no order. "until N PATH" waits until a znode
has so many children, "until-answer TEXT COMMAND" until that is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

SCRIPTS: Mapping[str, str] = {
    "framework": """
1 - create PERSISTENT /fw data
1 - create PERSISTENT /fw data
1 - create EPHEMERAL /fw/e
1 - create EPHEMERAL_SEQUENTIAL /fw/es- x
1 - create PERSISTENT_SEQUENTIAL /fw/s- y
1 - create CONTAINER /fw/c z
1 - create PERSISTENT /none/such a
1 - create PERSISTENT /fw/e/child a
1 - create-with-parents PERSISTENT /fw/a/b/c deep
1 - create-with-containers PERSISTENT /fw/x/y/z deep
1 - create-protected EPHEMERAL_SEQUENTIAL /fw/p- p
1 - create-ttl 1000000 /fw/t ttl
1 - create-or-set /fw/o 1
1 - create-or-set /fw/o 2
1 - get /fw
1 - get /none
2 - get /fw/e
2 - exists /fw/none
1 - set 0 /fw new
1 - set 0 /fw newer
2 - set -1 /fw newest
2 - delete 5 /fw/o
2 - delete -1 /fw
2 - delete -1 /fw/none
1 - set-acl 0 1:world:anyone /fw/o
1 - set-acl 0 1:world:anyone /fw/o
1 - set-acl -1 31:digest:nocolon /fw
2 - set -1 /fw/o no
2 - acl /fw/o
1 - sync /fw
1 - children /fw
1 - tree /fw
1 - get /zookeeper/config
1 - delete-tree /fw
1 - exists /fw
""",
    "transactions": """
1 - create PERSISTENT /tx
1 - multi create /tx/a 1 | create /tx/b 2 | set /tx/a 3 | check 1 /tx/a | delete /tx/b
1 - multi create /tx/c 1 | set /tx/none 2 | delete /tx/a
1 - multi check 7 /tx/a | delete /tx/a
1 - multi delete /tx/a | create /tx/a again
2 - tree /tx
""",
    "mutex": """
1 m new mutex /mutex
2 m new mutex /mutex
1 m acquire 5000
1 m acquire 5000
2 m acquire 100
2+ m acquire 20000
until 2 /mutex
1 m participants
1 m held
2 - tree /mutex
1 m release
1 m release
2- m
1 m acquire 50
1 m release
2 m release
1 n new semaphore-mutex /mutex/semaphore
2 n new semaphore-mutex /mutex/semaphore
1 n acquire 5000
2 n acquire 100
1 n release
2 n acquire 5000
2 n release
1 k new multi-lock /mutex/k1 /mutex/k2
1 k acquire 5000
2 j new mutex /mutex/k2
2 j acquire 100
1 k release
2 j acquire 5000
2 j release
1 - tree /mutex
""",
    "read-write-lock": """
1 w new read-write-lock /rw
2 w new read-write-lock /rw
1 w read acquire 5000
2 w read acquire 5000
1 - tree /rw
2 w read release
2 w write acquire 100
2+ w write acquire 20000
until 2 /rw
1 w read release
2- w
2 w read acquire 5000
1 w read acquire 100
2 w write release
1 w read acquire 5000
2 - tree /rw
1 w read release
2 w read release
1 - tree /rw
""",
    "semaphore": """
1 s new semaphore /semaphore 2
2 s new semaphore /semaphore 2
1 s acquire 5000
2 s acquire 5000
1 s acquire 200
2 - tree /semaphore
1 s release
2 s acquire 5000
1~ s participants
2 s release
2 s release
1 - tree /semaphore
""",
    "leaders": """
1 l new latch /latch one
1 l await 5000
2 l new latch /latch two
until 2 /latch
2 l leading
2 l leader
1 l participants
1 - tree /latch
1 l close
2 l await 10000
2 l leader
1 s new selector /selector one
1 s terms 1 10000
2 s new selector /selector two
until 2 /selector
2 s leader
1~ s participants
1 s yield
2 s terms 1 10000
2 s leading
until 2 /selector
2 - tree /selector
2 s close
1 s terms 1 10000
1 s close
2 l close
2 - tree /latch
""",
    "counters": """
1 c new count /counters/shared 5
2 c new count /counters/shared 7
1 c get
2 c set 9
until-answer 9 1 c get
1 c try 10
1 c get
1 - get /counters/shared
1 v new value /counters/value seed
1 v set other
1 v try third
1 v get
1 n new long /counters/long
2 n new long /counters/long
1 n get
1 n increment
2 n add 41
1 n decrement
2 n get
1 i new integer /counters/integer
1 i add -3
1 - get /counters/integer
1 c close
2 c close
1 v close
""",
    "barriers": """
1 b new barrier /barriers/single
2 b new barrier /barriers/single
1 b set
2 b wait 100
2+ b wait 20000
1 b remove
2- b
2 b wait 100
1 d new double-barrier /barriers/double 2
2 d new double-barrier /barriers/double 2
1 d enter 100
2 - tree /barriers/double
1+ d enter 20000
2 d enter 20000
1- d
2+ d leave 20000
1 d leave 20000
2- d
1 - tree /barriers
""",
    "members": """
1 m new member /members one alpha
2 m new member /members two beta
until 2 /members
until-answer {one=alpha, two=beta} 1 m members
until-answer ok 2 m set gamma
until-answer {one=alpha, two=gamma} 1 m members
2 - tree /members
2 m close
until 1 /members
until-answer {one=alpha} 1 m members
1 m close
""",
    "discovery": """
1 d new discovery /services
2 d new discovery /services
2 d watch web
1 d register web id1 host1 80 first
1 d register web id2 host2 81 second
2 d register mail id3 host3 25 third
2 d instances web
1 d names
until-answer [id1@host1:80=first, id2@host2:81=second] 2 d watched web
1 d update web id1 host9 80 changed
until-answer [id1@host9:80=changed, id2@host2:81=second] 2 d watched web
1 - tree /services
1 d unregister web id1 host9 80 changed
until-answer [id2@host2:81=second] 2 d watched web
2 d instances web
2 d instances nothing
1 d close
2 d close
1 - children /services/web
""",
    "persistent-nodes": """
1 n new node EPHEMERAL /nodes/ephemeral data
1 n await 5000
1 n path
2 - get /nodes/ephemeral
2 - delete -1 /nodes/ephemeral
until 1 /nodes
1 n set other
until-answer other 2 - data /nodes/ephemeral
1 n close
1 - exists /nodes/ephemeral
1 t new ttl-node /nodes/ttl 3600000 data
1 t await 5000
2 - tree /nodes
1 t close
""",
    # One kind of watch a session and path: 3.8.0 keeps only the last mode (the difference "watch-modes"). A watcher is
    # in place when a request behind it has been answered. A cache reads what it is told of: what has gone by then, it
    # says nothing of.
    "caches": """
1 - create PERSISTENT /caches root
1 - create PERSISTENT /caches/a 1
2 c new cache /caches
2~ c events 3 10000
1 - create-with-parents PERSISTENT /caches/b/c deep
2~ c events 2 10000
1 - set -1 /caches/a 2
2 c events 1 10000
1 - delete -1 /caches/b/c
2 c events 1 10000
2 c nodes
1 t new tree-cache /caches
1~ t events 4 10000
1 - set -1 /caches/b changed
1 t events 1 10000
1 t nodes /caches
2 c events 1 10000
1 t close
2 w new watcher /caches recursive
1 p new watcher /caches
1 - exists /
2 - exists /
2 - create EPHEMERAL /caches/e
2 c events 1 10000
2 - set -1 /caches x
2 - delete -1 /caches/e
2 w events 3 10000
1 p events 3 10000
2 w close
1 p close
2~ c events 2 10000
2 c close
1 - tree /caches
""",
    "queues": """
1 s new simple-queue /queues/simple
2 s new simple-queue /queues/simple
1 s put one
1 s put two
2 s peek
2 s poll 5000
1 s poll 5000
2 s poll 50
1 q new queue /queues/plain put-only
1 q put first
1 q put second
1 - tree /queues/plain
2 q new queue /queues/plain
2 q events 2 10000
1 p new priority-queue /queues/priority put-only
1 p put 7 late
1 p put -2 early
1 p put 7 later
2 - children /queues/priority
2 p new priority-queue /queues/priority
2 p events 3 10000
1 d new delay-queue /queues/delay put-only
1 d put 1 soon
2 d new delay-queue /queues/delay
2 d events 1 10000
2 q close
2 p close
2 d close
1 - tree /queues
""",
}
