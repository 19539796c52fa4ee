"""The behaviour of the API classes, each in the module of its name. `every` imports them all."""
