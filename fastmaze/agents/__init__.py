"""Losses and targets of the learning algorithms; no loops, no optimisers."""
