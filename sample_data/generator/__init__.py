"""A discrete-event simulation of a shop, written as its telemetry sources would serve it.

`python -m sample_data.generator --seed 7 --out sample_data` makes the recorded data again,
byte for byte.
"""
