"""A wall clock that can be set, for one process: some lines of C before its C library. Time since boot goes on."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("WALL_CLOCK"), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) offset = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
}
int clock_gettime(clockid_t id, struct timespec *found) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, found);
    if (offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) found->tv_sec += *offset;
    return result;
}
time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *found, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec, found->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


class WallClock:
    """Built in `folder`; `environ` is what the process must be given."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("a C compiler is not installed here")
        library, self._offset = folder / "wall_clock.so", folder / "wall_clock.offset"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-", "-ldl"]
        subprocess.run(command, input=_SHIM, text=True, check=True)
        self._offset.write_bytes(struct.pack("l", 0))
        self.environ = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._offset)}

    def set(self, offset_s: int) -> None:
        """So many seconds before or behind ours, from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("l", offset_s))
