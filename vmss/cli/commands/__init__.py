"""The commands, one module each, which `vmss.cli.main` loads when it is wanted.

A module has `parser()`, its argparse parser, and `do(arguments)`, which does the work and returns the exit status.
"""
