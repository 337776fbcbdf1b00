"""The commands of `molecule-local`: a module for each family, imported when its command is used.

A family has a function that adds its arguments to a parser and sets `run`, which takes the parsed arguments and returns the exit code.
What they share: `options` (arguments), `console` (what people see), `remote` (the running platform over HTTP) and `frames` (its events).
"""
