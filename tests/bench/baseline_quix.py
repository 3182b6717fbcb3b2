"""Baseline: Quix Streams joins requests with responses in its state on RocksDB with its changelog.

python -m bench.baseline_quix BROKERS GROUP EVENTS DIRECTORY
"""

import sys
from typing import Any

from quixstreams import Application, State

from bench.stopwatch import Stopwatch

joined = 0


def main(brokers: str, group: str, events: int, directory: str) -> None:
    watch = Stopwatch(events, lambda: {"calls joined": joined})

    def join(half: dict[str, Any], state: State) -> None:
        global joined
        watch.count(1)
        if state.exists("half"):
            state.delete("half")
            joined += 1
        else:
            state.set("half", half)
        watch.check()

    app = Application(
        broker_address=brokers,
        consumer_group=group,
        state_dir=directory,
        auto_offset_reset="earliest",
        loglevel="WARNING",
    )
    requests, responses = (
        app.dataframe(app.topic(name, key_deserializer="str", value_deserializer="json"))
        for name in ("llm.requests", "llm.responses")
    )
    requests.concat(responses).update(join, stateful=True)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
