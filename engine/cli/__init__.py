"""The command line: arguments to calls, results to text; it holds no rule of its own."""
