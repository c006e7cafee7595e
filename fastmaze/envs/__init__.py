"""The tasks as Gymnasium environments: one copy (`single`) or a population (`vector`)."""
