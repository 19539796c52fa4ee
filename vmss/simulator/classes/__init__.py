"""The behaviour of each API class, in the module that bears its name. `every` imports them all."""
