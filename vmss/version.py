"""The version, in a module of its own: the plugin's file can stand in the place of the package itself."""

VERSION = "0.1.0"
