"""Each task once in readable Python: the executable specification, and the oracle of the tests."""
