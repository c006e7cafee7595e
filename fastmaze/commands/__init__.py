"""The commands of `fastmaze`, one module each: `run(args) -> exit status`."""
