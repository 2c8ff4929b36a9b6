"""Builds a small bootable image of a target: `python3 guest/build.py`, or with `--arch arm`.

It has a Debian kernel, BusyBox, CPython's minimal runtime, the taskloader agent and the workloads,
and is two files, `vmlinuz` and `initramfs`, in guest/build/ARCH. Everything but the agent and the
workloads comes from Debian's packages, which `packages.txt` beside them lists; the same packages
and sources give the same bytes. It needs Debian or a relative of it, with a compiler, no root.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent

EPOCH = 0
"""The time of every file of an image."""

PYTHON_PACKAGES = ("libpython{}-minimal", "libpython{}-stdlib", "python{}-minimal")
LIBRARIES = ("libc6", "libgcc-s1", "zlib1g", "libexpat1", "libffi8")
FURTHER_MODULES = ("encodings.idna", "encodings.ascii", "runpy")
"""What the agent needs from the standard library without importing it when it starts."""

AGENT = "taskgen_run.taskloader.__main__"

BUSYBOX = ("echo", "insmod", "ip", "ln", "mount", "poweroff", "sh", "udhcpc")

NEEDED_TOOLS = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
    "make": "make",
    "readelf": "binutils",
}


@dataclass(frozen=True)
class Machine:
    """What differs between the architectures. `modules` are those of the kernel for the network."""

    debian: str
    kernel: str
    triplet: str
    compiler: str
    compiler_packages: str
    modules: tuple[str, ...]


MACHINES = {
    "x86_64": Machine(
        "amd64",
        "linux-image-cloud-amd64",
        "x86_64-linux-gnu",
        "x86_64-linux-gnu-gcc",
        "gcc libc6-dev",
        ("virtio_pci", "virtio_net"),
    ),
    "arm": Machine(
        "armhf",
        "linux-image-armmp",
        "arm-linux-gnueabihf",
        "arm-linux-gnueabihf-gcc",
        "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
        ("virtio_mmio", "virtio_net"),
    ),
}


class BuildError(Exception):
    """Raised when an image cannot be built; the message says why, and what to do."""


def build(arch: str, output: Path) -> None:
    """Build the image for `arch` into `output`. Raises BuildError."""
    machine = MACHINES[arch]
    _check_tools(machine)
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        work = Path(name)
        packages = Packages(machine.debian, work / "apt")
        kernel = packages.dependency(machine.kernel, r"linux-image-\d.*")
        python = packages.dependency("python3-minimal", r"python\d.*").removeprefix("python")
        version = python.removesuffix("-minimal")
        names = [kernel, "busybox-static", *LIBRARIES]
        names += [package.format(version) for package in PYTHON_PACKAGES]
        system = work / "system"
        listed = packages.extract(names, system)
        root = work / "root"
        _copy_tools(system, root)
        _copy_python(system, root, version, native=_native_python(machine, version, system, work))
        _copy_libraries(system, root, machine.triplet)
        _copy_modules(system, root, machine.modules)
        _copy_workloads(root, machine, work)
        output.mkdir(parents=True, exist_ok=True)
        _publish(_found(system, "boot/vmlinuz-*").read_bytes(), output / "vmlinuz")
        _publish(_archive(root), output / "initramfs")
        _publish("".join(f"{line}\n" for line in listed).encode(), output / "packages.txt")


class Packages:
    """Debian's packages for an architecture, fetched without touching those of this machine."""

    def __init__(self, architecture: str, directory: Path) -> None:
        """Fetch the lists of packages. Raises BuildError."""
        self._directory = directory
        for part in ("lists/partial", "cache/archives/partial", "packages"):
            (directory / part).mkdir(parents=True)
        (directory / "status").touch()
        (directory / "apt.conf").write_text(
            f'APT::Architecture "{architecture}";\n'
            f'APT::Architectures {{ "{architecture}"; }};\n'
            f'Dir::State "{directory}";\n'
            f'Dir::State::status "{directory}/status";\n'
            f'Dir::Cache "{directory}/cache";\n'
            'Acquire::Languages "none";\n'
            'APT::Sandbox::User "";\n'
        )
        self._environment = {**os.environ, "APT_CONFIG": str(directory / "apt.conf"), "LC_ALL": "C"}
        # Whether a list that cannot be had is missed is found out later.
        updated = subprocess.run(
            ["apt-get", "--quiet=2", "update"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self._complaint = (updated.stderr.strip().splitlines() or [""])[0]

    def dependency(self, package: str, pattern: str) -> str:
        """The name of the package like `pattern` that `package` depends on. Raises BuildError."""
        try:
            told = self._run("apt-cache", "depends", package)
        except BuildError as error:
            raise BuildError(
                f"package {package} must be in the lists of apt, and is not: "
                f"{self._complaint or error}; see to the network and to /etc/apt/sources.list"
            ) from error
        names = re.findall(r"Depends: (\S+)", told)
        for name in names:
            if re.fullmatch(pattern, name):
                return str(name)
        raise BuildError(f"package {package} must depend on one like {pattern}, has {names}")

    def extract(self, names: list[str], directory: Path) -> list[str]:
        """Unpack packages; their names and versions. Raises BuildError."""
        place = self._directory / "packages"
        before = set(place.iterdir())
        self._run("apt-get", "--quiet=2", "download", *names, cwd=place)
        files = sorted(set(place.iterdir()) - before)
        for file in files:
            self._run("dpkg-deb", "--extract", str(file), str(directory))
        return [self._run("dpkg-deb", "--show", str(file)).strip() for file in files]

    def _run(self, *command: str, cwd: Path | None = None) -> str:
        return _run(*command, cwd=cwd, environment=self._environment)


def _check_tools(machine: Machine) -> None:
    needed = {**NEEDED_TOOLS, machine.compiler: machine.compiler_packages}
    missing = {tool: package for tool, package in needed.items() if shutil.which(tool) is None}
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise BuildError(
            f"tools must be installed, {', '.join(missing)} are missing; "
            f"run: apt-get install {packages}"
        )


def _native_python(machine: Machine, version: str, system: Path, work: Path) -> list[str]:
    """The command of the guest's Python on this machine, which compiles its modules."""
    native = _run("dpkg", "--print-architecture").strip()
    if native != machine.debian:
        packages = Packages(native, work / "native-apt")
        system = work / "native"
        packages.extract(
            [package.format(version) for package in PYTHON_PACKAGES] + [*LIBRARIES], system
        )
    loader = _found(system, "**/ld-linux*.so.*")
    libraries = ":".join(str(p) for p in sorted(system.glob("**/*-linux-gnu*")) if p.is_dir())
    home = system / "usr"
    path = f"{REPOSITORY}:{home}/lib/python3/dist-packages"
    return [
        *("env", "-i", f"PYTHONHOME={home}", f"PYTHONPATH={path}", "PYTHONDONTWRITEBYTECODE=1"),
        *(str(loader), "--library-path", libraries, str(home / f"bin/python{version}")),
    ]


def _copy_tools(system: Path, root: Path) -> None:
    for directory in ("bin", "dev", "etc", "lib/modules", "proc", "sys", "tmp", "usr/bin"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy(_found(system, "**/bin/busybox"), root / "bin")
    for name in BUSYBOX:
        (root / "bin" / name).symlink_to("busybox")
    shutil.copy(HERE / "init", root)
    shutil.copy(HERE / "lease", root / "etc")


def _copy_python(system: Path, root: Path, version: str, *, native: list[str]) -> None:
    """The interpreter, and of the modules those that the agent imports, compiled."""
    shutil.copy(system / f"usr/bin/python{version}", root / "usr/bin/python3")
    library = root / f"usr/lib/python{version}"
    extensions = library / "lib-dynload"  # without which Python complains
    extensions.mkdir(parents=True)
    for module, origin in _imported(native):
        if ".so" in origin.suffixes:
            name = origin.name.partition(".")[0]  # the rest is this machine's architecture
            source = _found(system, f"usr/lib/python{version}/lib-dynload/{name}.*")
            target = extensions / source.name
        else:
            source = origin
            target = library.joinpath(*module.split("."))
            is_package = origin.name == "__init__.py"
            target = target / origin.name if is_package else target.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    # Nothing of what is compiled depends on where and when that was.
    _run(
        *(*native, "-m", "compileall", "-q", "-b", "--invalidation-mode", "unchecked-hash"),
        *("-s", str(root), "-p", "/", str(library)),
    )
    for source in library.glob("**/*.py"):
        if source.name != "os.py":  # by which Python knows its library
            source.unlink()


def _imported(native: list[str]) -> Iterator[tuple[str, Path]]:
    """The modules that the agent imports, and the files that they are on this machine."""
    code = (
        "import sys, importlib\n"
        f"for name in {(AGENT, *FURTHER_MODULES)!r}: importlib.import_module(name)\n"
        "for name, module in sorted(sys.modules.items()):\n"
        "    file = getattr(module, '__file__', None)\n"
        "    if file and name != '__main__': print(name, file)\n"
    )
    for line in _run(*native, "-S", "-c", code).splitlines():
        module, _, origin = line.partition(" ")
        yield module, Path(origin)


def _copy_libraries(system: Path, root: Path, triplet: str) -> None:
    """The shared libraries that the guest's executables and extension modules name."""
    waiting = [path for path in root.glob("usr/**/*") if path.is_file() and _is_elf(path)]
    while waiting:
        file = waiting.pop()
        told = _run("readelf", "--dynamic", "--program-headers", "--wide", str(file))
        names = re.findall(r"\(NEEDED\).*\[(.+)\]", told)
        sources = {name: next(system.glob(f"**/{triplet}/{name}"), None) for name in names}
        missing = [name for name, source in sources.items() if source is None]
        if missing and file.parent.name == "lib-dynload":
            file.unlink()  # Python does without this one
            continue
        if missing:
            raise BuildError(f"{file.name} needs {missing[0]}, which none of the packages has")
        for name, source in sources.items():
            target = root / "lib" / triplet / name
            if source is not None and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                waiting.append(Path(shutil.copy(source, target)))
        for loader in re.findall(r"interpreter: /(\S+?)\]", told):
            target = root / loader
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_found(system, f"**/{target.name}"), target)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _copy_modules(system: Path, root: Path, names: Iterable[str]) -> None:
    """The modules of the kernel, numbered in an order in which each follows what it needs."""
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        file = _found(system, f"**/modules/**/{name}.ko*")
        content = file.read_bytes()
        if file.suffix == ".xz":
            content = lzma.decompress(content)
        for needed in re.findall(rb"\0depends=([^\0]*)\0", content):
            for other in filter(None, needed.decode().split(",")):
                if other not in ordered:
                    add(other)
        ordered[name] = content

    for name in names:
        add(name)
    for number, (name, content) in enumerate(ordered.items()):
        (root / f"lib/modules/{number:02}-{name}.ko").write_bytes(content)


def _copy_workloads(root: Path, machine: Machine, work: Path) -> None:
    built = work / "workloads"
    _run(
        *("make", "--silent", "-C", str(REPOSITORY / "workloads")),
        *(f"CC={machine.compiler}", f"BUILD={built}"),
    )
    for file in built.iterdir():
        shutil.copy(file, root / "usr/bin")


def _archive(root: Path) -> bytes:
    """The tree as an archive that is a function of its contents.

    It is not compressed: under emulation, a guest would take long to unpack it.
    """
    names = sorted(str(path.relative_to(root)) for path in root.glob("**/*"))
    for name in names:
        path = root / name
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return subprocess.run(
        ["cpio", "--quiet", "--create", "--format=newc", "--reproducible", "--owner=0:0"],
        input="".join(f"{name}\n" for name in names).encode(),
        cwd=root,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def _found(directory: Path, pattern: str) -> Path:
    """The first file like `pattern`. Raises BuildError."""
    for path in sorted(directory.glob(pattern)):
        return path
    raise BuildError(f"the packages must have a file like {pattern}, and have none")


def _publish(content: bytes, path: Path) -> None:
    """Write a file that appears under its name when it is whole."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)


def _run(*command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit value {done.returncode}"]
        raise BuildError(f"{' '.join(command[:3])} failed: {lines[-1]}")
    return done.stdout


def main() -> int:
    """Build what the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=MACHINES, default="x86_64")
    parser.add_argument("--output", type=Path, help="directory of the image (guest/build/ARCH)")
    options = parser.parse_args()
    output = options.output or HERE / "build" / options.arch
    try:
        build(options.arch, output)
    except (BuildError, OSError) as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
    print(f"guest: {output} has vmlinuz and initramfs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
