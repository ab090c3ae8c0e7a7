"""A persistent subprocess that holds one episode: a JSON line in, a JSON line out.

    python -m benchmarks.peers.pipe_worker

["load", source, class_name, config] constructs the environment, ["step", action] takes one step.
"""

import json
import sys

from benchmarks.peers.native_class import construct, load_class


def main() -> None:
    episode = None
    for line in sys.stdin:
        request = json.loads(line)
        if request[0] == "load":
            episode = construct(load_class(request[1], request[2]), request[3])
            reply = ""
        else:
            assert episode is not None
            reply = episode.step(request[1])[1]
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
