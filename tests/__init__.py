"""The tests. A package by its own right: one of the packages that they need brings another of the same name."""
