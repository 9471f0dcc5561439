"""The command line: maps arguments to calls of the engine, and results to text."""
