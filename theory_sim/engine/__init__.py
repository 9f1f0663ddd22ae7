"""Run a sweep: plan its blocks, compile one program a shape, keep every finished block.

The engine knows simulations only through their contract; it imports no family.
"""
