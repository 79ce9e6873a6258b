"""Carries out a Containerfile where no container engine runs: each stage in an overlay over this machine's root.

What stands in for the base image is this machine with the running Python in /usr/local, where the official images have
theirs. It takes root and Linux's namespaces; nothing outside them is changed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


def why_not() -> str | None:
    """What keeps a Containerfile from being carried out here; None: nothing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "it takes root on Linux"
    if not all(map(shutil.which, ("unshare", "setpriv", "chroot", "ip"))):
        return "unshare, setpriv, chroot or ip is missing"
    if not Path(sys.base_prefix, "bin", "python").exists() or sys.base_prefix == "/usr":
        return "Python has no folder of its own"
    tried = "mount -t tmpfs t /mnt && cd /mnt && mkdir u w r && mount -t overlay o -o lowerdir=/,upperdir=u,workdir=w r"
    if subprocess.run(["unshare", "--mount", "sh", "-c", tried], capture_output=True, check=False).returncode:
        return "overlays cannot be mounted here"
    return None


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """What was said last of it."""
        return [said for name, said in self.steps if name == instruction][-1]

    @property
    def environment(self) -> dict[str, str]:
        """All of its ENV."""
        said = [shlex.split(said) for name, said in self.steps if name == "ENV"]
        return dict(pair.split("=", 1) for pairs in said for pair in pairs)


def stages(containerfile: str) -> list[Stage]:
    """The stages in their order, the last of which is the image."""
    found: list[Stage] = []
    text = re.sub(r"^\s*#.*\n", "", containerfile, flags=re.MULTILINE)
    for line in filter(None, re.sub(r"\\\n", " ", text).splitlines()):
        instruction, _, said = line.partition(" ")
        if instruction == "FROM":
            found.append(Stage(said.partition(" AS ")[2] or f"{len(found)}"))
        else:
            found[-1].steps.append((instruction, said.strip()))
    return found


def context(root: Path, ignored: str, into: Path) -> None:
    """What of a folder an engine is sent, by an ignore file that leaves out all but what it names."""
    first, *others = ignored.split()
    assert first == "*"
    for name in others:
        if name.startswith("!"):
            part = root / name[1:]
            if part.is_dir():
                shutil.copytree(part, into / part.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(part, into)


def build(parts: list[Stage], sent: Path) -> str:
    """A shell script that leaves each stage's root in a folder of its name, below a new tmpfs on /mnt."""
    lines = ["set -eu", "mount -t tmpfs -o mode=755 t /mnt", "cd /mnt"]
    for stage in parts:
        name, folder = stage.name, "/"
        lines += [
            f"mkdir -p {name}.upper {name}.work {name}",
            f"mount -t overlay o -o lowerdir=/,upperdir={name}.upper,workdir={name}.work {name}",
            f"mount --bind {sys.base_prefix} {name}/usr/local",
            f"mount --rbind /dev {name}/dev",
            f"mount --rbind /proc {name}/proc",
        ]
        for instruction, said in stage.steps:
            words = shlex.split(said)
            match instruction:
                case "WORKDIR":
                    folder = said
                    lines.append(f"mkdir -p {name}{folder}")
                case "COPY" if words[0].startswith("--from="):
                    origin = words[0].removeprefix("--from=")
                    lines.append(f"mkdir -p $(dirname {name}{words[2]})")
                    lines.append(f"cp -a {origin}{words[1]} {name}{words[2]}")
                case "COPY":
                    whole = "-rT" if len(words) == 2 and (sent / words[0]).is_dir() else "-t"
                    target = f"{name}{folder}/{words[-1]}"
                    files = " ".join(f"{sent}/{word}" for word in words[:-1])
                    lines.append(
                        f"cp {whole} {files} {target}" if whole == "-rT" else f"cp -t {target} {files}"
                    )
                case "RUN":
                    run = shlex.quote(f"cd {folder} && export PATH=/usr/local/bin:$PATH && {said}")
                    lines.append(f"chroot {name} sh -c {run}")
    return "\n".join(lines) + "\n"


def within(image: Stage, command: str) -> str:
    """A shell script that runs a command as the image would: its user and environment, nothing to write to but /tmp."""
    user, group = image.last("USER").split(":")
    stated = " ".join(shlex.quote(f"{name}={value}") for name, value in image.environment.items())
    as_nobody = (
        "ip link set lo up && "
        f"exec setpriv --reuid {user} --regid {group} --clear-groups "
        "--no-new-privs --bounding-set=-all --inh-caps=-all "
        "env -i LD_LIBRARY_PATH=/usr/local/lib "  # of a Python that was not made for this folder
        f"{stated.replace('$PATH', '/usr/local/bin:/usr/bin:/bin')} bash -c {shlex.quote(command)}"
    )
    return (
        f"mount -o remount,ro,bind {image.name}/usr/local && mount -o remount,ro {image.name}\n"
        f"mount -t tmpfs -o size=64m,mode=1777,noexec,nosuid,nodev t {image.name}/tmp\n"
        f"exec unshare --net chroot {image.name} sh -c {shlex.quote(as_nobody)}\n"
    )
