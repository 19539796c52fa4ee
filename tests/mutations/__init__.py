"""Mutations of the product, one at a time, and who notices each: the suite, or the simulation.

python -m tests.mutations

A test that cannot fail is a defect; this is how to find it. The catalogue names what must never go unnoticed.
"""
