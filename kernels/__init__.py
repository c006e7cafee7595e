"""Attention kernels for the Q-network; empty in this version."""
