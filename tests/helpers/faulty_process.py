"""``msrn`` with a fault in one of its processes: ``faulty_process.py FAULT RANK STEP ARGUMENTS...``.

FAULT names what happens there as that optimizer step begins, in this order: ``slow`` sleeps eight seconds, ``raise``
raises an error of ours, ``kill`` kills the process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from msrn.__main__ import run
from msrn.engine.learner import Learner
from msrn.errors import DataError

FAULT, RANK, STEP = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
step = Learner.step


def faulty(self: Learner, number: int, *args: Any, **options: Any) -> None:
    if int(os.environ.get("LOCAL_RANK", "0")) == RANK and number == STEP:
        if "slow" in FAULT:
            time.sleep(8)
        if "raise" in FAULT:
            raise DataError("an image is broken", "a.jpg", "mend it")
        if "kill" in FAULT:
            os.kill(os.getpid(), signal.SIGKILL)
    step(self, number, *args, **options)


if __name__ == "__main__":
    Learner.step = faulty  # type: ignore[method-assign]
    sys.argv = ["msrn", *sys.argv[4:]]
    run()
