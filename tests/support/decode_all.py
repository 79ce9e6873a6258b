"""Decode every entry of a folder in this process, with its address space limited; one JSON line for each.

Run as a script, so that a crash, a hang or a leak of memory cannot take the tests with it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from melascope.errors import ImageError
from melascope.imaging.decode import read_image

ADDRESS_SPACE_BYTES = 2 << 30


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def main(folder: Path) -> None:
    """Print `name, outcome, message, seconds, grown_mib` of each entry, sorted by name."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    for path in sorted(folder.iterdir()):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here: proc(5)
        before, start = _peak_mib(), time.perf_counter()
        try:
            image = read_image(path)
            outcome, message = "image", f"{image.format} {image.width_px} x {image.height_px}"
        except ImageError as error:
            outcome, message = type(error).__name__, str(error)
        except BaseException as error:  # noqa: BLE001 - the report says which file did it
            outcome, message = "crash", repr(error)
        line = {
            "name": path.name,
            "outcome": outcome,
            "message": message,
            "seconds": time.perf_counter() - start,
            "grown_mib": _peak_mib() - before,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
