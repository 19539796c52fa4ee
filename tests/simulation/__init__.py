"""Whole passes of the real code against the embedded xapi, in one process, on virtual time, with faults from a seed."""
