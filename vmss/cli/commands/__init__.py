"""The commands, one module each; `vmss.cli.main` loads the one that is wanted."""
