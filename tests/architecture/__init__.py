"""The rules of the tree: each a function over parsed sources, a test on the real tree, and a test that sees it bite."""
