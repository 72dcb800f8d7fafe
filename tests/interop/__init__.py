"""Tests against real peers: Apache ZooKeeper servers, the Java and C clients, kazoo.

Refuses to know how terzetto works inside: what stands here sees public names and the wire only.
"""
