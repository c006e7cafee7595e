"""FastMaze inside other trainers. Each has an environment of its own: `nox -s sb3`, and so on."""
