"""Upshot: experiments from the first assignment to an answer that people can trust."""

__version__ = "0.1.0"
