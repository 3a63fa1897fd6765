"""The rules of docs/sequencer.md, each taken out in turn: a simulator that does not notice is none.

A tooth is a set of patches without which one rule does not hold. `python -m tests.simulation.teeth
NAME FIRST COUNT` looks for a seed that notices; the first one found is recorded in `seeds.SEEDS`,
and the tests repeat it. A tooth may name the flavour of scenario that suits it: that of the seed is
left out then.
"""
