"""Claim studies: a sentence about two arms, held to a protocol fixed before the first trial.

model, reading, meaning   the claim file
plan, differences         the networks it means, and what really differs between its arms
protocol, listed, run     what is recorded first, and the trials of the ordinary engine
found, pages              what came of it, and how it is written down
"""
