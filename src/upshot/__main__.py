"""The `upshot` command, also as `python -m upshot`."""

import atexit
import gc

# What is imported stays. The collector would look through all of it three times before the first line of work, and of a server
# again at each of its full collections, for a quarter of a second in which nobody is answered.
gc.disable()

from upshot import cli  # noqa: E402


def main() -> None:
    """The command, with a collector that leaves alone what was imported for it."""
    cli.main(_imported)


def _imported() -> None:
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # libraries count at the end what is left of theirs, and complain


if __name__ == "__main__":
    main()
