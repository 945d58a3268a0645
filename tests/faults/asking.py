"""One client process of the flip test: asks for the variants of its users, several times each, and says what it was told.

    python -m tests.faults.asking URL TOKEN EXPERIMENT SEED USERS ROUNDS POOL

It waits for a line on its standard input, so that all processes begin together, and prints one JSON object.
"""

import json
import random
import sys

from tests.faults.wire import Wire

BATCHED = 0.2  # this share of the users is asked for in batch calls
BATCH = 50


def main() -> None:
    """Ask and report."""
    url, token, experiment, seed = sys.argv[1:5]
    count, rounds, pool = map(int, sys.argv[5:])
    chance = random.Random(seed)
    users = sorted(chance.sample(range(pool), count))  # in the same order everywhere: first requests race
    told: dict[str, set[str]] = {}
    new = answers = requests = 0
    wire = Wire(url, token)
    sys.stdin.readline()
    for turn in range(rounds):
        if turn:
            chance.shuffle(users)
        waiting: list[str] = []
        for index in users:
            user = f"user-{index}"
            if chance.random() < BATCHED:
                waiting.append(user)
                if len(waiting) < BATCH:
                    continue
                status, content = wire.post(f"/experiments/{experiment}/assignments", {"users": waiting})
                waiting, found = [], content.get("assignments", ())
            else:
                status, content = wire.get(f"/experiments/{experiment}/assignment/{user}")
                found = [content]
            assert status == 200, content
            requests += 1
            for answer in found:
                answers += 1
                new += answer["is_new"]
                told.setdefault(answer["user_id"], set()).add(answer["variant_id"])
    wire.close()
    report = {"told": {user: sorted(variants) for user, variants in told.items()}}
    print(json.dumps(report | {"new": new, "answers": answers, "requests": requests}))  # noqa: T201


if __name__ == "__main__":
    main()
