"""Command lines: arguments, output, exit codes."""
