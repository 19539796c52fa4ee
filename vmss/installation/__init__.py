"""The files of an installation, and their places."""
