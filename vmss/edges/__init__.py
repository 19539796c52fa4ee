"""The world outside, one module for each thing: xapi, the log, the lock, the clock, the settings."""
