"""Coordination recipes for trio on a ZooKeeper client, one recipe a file; their public names arrive with the recipes.

A recipe takes a client and uses nothing of `terzetto.client` but its public names; the client knows no recipe.
"""
