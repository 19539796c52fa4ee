"""Decisions, and the values that they are made of: no file, socket, clock or XenAPI."""
