"""One module per command: its docstring is its help, `add` its options, `run` its work."""
