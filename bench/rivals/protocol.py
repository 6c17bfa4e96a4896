"""How a rival talks to bench/main.ts: one JSON line in, one JSON line out. A rival loads once, then measures when it is told to."""

import json
import resource
import sys
import traceback
import warnings


def reset_peak_memory():
    """Linux starts its high-water mark anew when 5 is written here; elsewhere the peak is that of the whole process."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak_memory_bytes():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(message):
    sys.__stdout__.write(json.dumps(message) + "\n")
    sys.__stdout__.flush()


def serve(start, measure):
    """`start(options)` answers the first line and returns a state; `measure(state, request)` every further one."""
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr  # whatever libraries print must not mix with the answers
    try:
        state, information = start(json.loads(sys.stdin.readline()))
        say({"ready": True, **information})
        for line in sys.stdin:
            try:
                say(measure(state, json.loads(line)))
            except Exception as error:  # one mode that fails (no compiler, no memory) must not end the others
                traceback.print_exc()
                say({"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
    except Exception as error:
        traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
        sys.exit(1)
