"""The roof: command line, configuration, public Python API."""
