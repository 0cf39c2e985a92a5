"""A trial from its config to its result, and the folder that it leaves."""
