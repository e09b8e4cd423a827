"""Labelled incidents of made-up systems, any number of them, the same for the same seed.

A system is a random service graph with names drawn at random; its requests are played in columns
(one numpy array per step of a request's call tree, no loop per span), faults change how long
steps take, whether they fail and what is logged, and the metrics follow from what was played.
"""
