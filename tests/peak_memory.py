"""Print how many bytes of memory it takes to read a photo in two threads: python peak_memory.py PHOTO SMALL."""

import re
import sys
from pathlib import Path
from threading import Thread

from similar_images.photos.images import read_resized


def peak() -> int:
    """Return the most bytes of memory that this process had; its parent's, which `resource` counts in, are left out."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def main(photo: str, small: str) -> None:
    read_resized(small, (224, 224))
    before, means = peak(), []
    threads = [Thread(target=lambda: means.append(read_resized(photo, (224, 224)).mean())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(peak() - before, *means)


if __name__ == "__main__":
    main(*sys.argv[1:])
