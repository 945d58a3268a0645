"""The demonstration: a real published experiment, shipped with the package."""
