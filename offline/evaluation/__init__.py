"""How good a training run was: many measures, by segment, with intervals, as a page to read.

It judges slates and probabilities that the served engine gave; it trains nothing and decides
nothing, which is the gate's.
"""
