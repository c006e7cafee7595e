"""Env steps/s inside other trainers' collection loops; `nox -s TRAINER -- steps` runs them."""
