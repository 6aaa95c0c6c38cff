"""Freshet's pure core: events in, lists out. No IO, no clock, no global randomness."""
