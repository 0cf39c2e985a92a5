"""The formats of exported files, a module each, whose name is what `format=` calls it."""
