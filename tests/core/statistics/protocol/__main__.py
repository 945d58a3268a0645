"""Prints the table of the protocol: `python -m tests.core.statistics.protocol`, at the sizes that it names.

With a number, no more experiments than that in each row; with names such as c7, only those rows.
"""

import sys

from tests.core.statistics.protocol.rows import Size
from tests.core.statistics.protocol.table import table

if __name__ == "__main__":
    arguments = sys.argv[1:]
    most = [int(argument) for argument in arguments if argument.isdigit()]
    size = Size(*most)
    for line in table(size, tuple(argument for argument in arguments if not argument.isdigit())):
        sys.stdout.write(line + "\n")
