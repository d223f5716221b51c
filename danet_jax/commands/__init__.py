"""The command line: one file a command; the only modules that see the network and the data."""
