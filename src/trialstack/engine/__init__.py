"""How trials are trained: the networks, the stacked engine and the eager one."""
