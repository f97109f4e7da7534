#!/usr/bin/env python3
"""The built program beside its peers, as whole processes: wall, CPU, peak memory, bytes, requests.

    cargo build --release
    python3 benches/peers/run.py --binary target/release/singularity-survey

Makes checkpoints of stated shapes, serves them with nginx on loopback, and runs the program and its
peers by turns: ours, peer, ours, peer … A round is one run of each, and a ratio is the median over the
rounds of a run's wall to that of the yardstick in the same round. Whoever reads a file finds it in the
page cache. Every report of ours is held against the groups that the checkpoint was made with; times are
never judged. docs/benchmarks.md says what each figure means and what to distrust.

Out come Markdown tables. Whatever is not installed (nginx, openssl, b3sum, numpy, torch,
huggingface_hub) is left out with a line that says so; --python names the interpreter that has the
last three. Nothing leaves this machine, and servers end with the script.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import math
import mmap
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

# Where programs are looked for: a user's path may lack the folders of daemons and of cargo.
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin",
                          os.path.expanduser("~/.cargo/bin")])

# A run that takes longer has failed.
PATIENCE = 900.0


def note(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def installed(name: str) -> str | None:
    return shutil.which(name, path=PLACES)


# --- Checkpoints --------------------------------------------------------------------------------

BITS = {"BF16": 16, "F16": 16, "F32": 32, "F8_E4M3": 8, "U8": 8}

# Bytes made at a time: each from its own number, so that a file is the same wherever it is made.
PIECE = 8 << 20

# In the default shape 2,212 members in 60 groups, in others in proportion.
GROUPS, MEMBERS, OF = 60, 2_212, 151_936


@dataclass(frozen=True)
class Shape:
    """A checkpoint of one matrix. A thin one is a hole in the file but for the first eight bytes of
    each row: it is read as all others, and takes a block of the disk for each row."""

    rows: int
    columns: int
    dtype: str = "BF16"
    thin: bool = False

    @property
    def row_bytes(self) -> int:
        return self.columns * BITS[self.dtype] // 8

    @property
    def size(self) -> int:
        return self.rows * self.row_bytes

    def __str__(self) -> str:
        """By which --shape knows it, and its folder."""
        return f"{self.rows}x{self.columns}-{self.dtype}{'-thin' if self.thin else ''}"

    def words(self) -> str:
        return (f"{self.rows:,} × {self.columns:,} {self.dtype}, rows of {self.row_bytes:,} B, "
                f"{self.size / 1e6:,.0f} MB{', thin' if self.thin else ''}")

    def header(self) -> bytes:
        tensor = {"dtype": self.dtype, "shape": [self.rows, self.columns],
                  "data_offsets": [0, self.size]}
        text = json.dumps({"model.embed_tokens.weight": tensor}).encode()
        return struct.pack("<Q", -(-len(text) // 64) * 64) + text + b" " * (-len(text) % 64)

    def range(self) -> str:
        start = len(self.header())
        return f"{start}-{start + self.size - 1}"

    def groups(self) -> list[list[int]]:
        """Members of each group, spread over the whole matrix. The last group is the largest."""
        members = max(2, self.rows * MEMBERS // OF)
        count = min(GROUPS, members // 2)
        stride = next(n for n in range(self.rows * 5 // 8 | 1, 2 * self.rows)
                      if math.gcd(n, self.rows) == 1)
        rows = [at * stride % self.rows for at in range(members)]
        sizes = [max(2, members // (4 * count))] * (count - 1)
        ends = [sum(sizes[:at]) for at in range(count)] + [members]
        return [sorted(rows[a:b]) for a, b in itertools.pairwise(ends)]

    def reported(self, report: bytes) -> None:
        """What is wrong has no speed."""
        groups, told = self.groups(), json.loads(report)
        found = told["duplicates"]
        same = sorted(group["rows"] for group in found["groups"]) == sorted(groups)
        if not same or found["rows"] != self.rows or told["matrix"]["bytes"] != self.size:
            sys.exit(f"the report of {self} is wrong: {found['groups_total']} groups of "
                     f"{found['members']} members, not {len(groups)} of {sum(map(len, groups))}")

    def counted(self, output: bytes) -> None:
        """The same of a peer that prints the numbers of groups and of members."""
        groups = self.groups()
        if output.split() != [b"%d" % len(groups), b"%d" % sum(map(len, groups))]:
            sys.exit(f"a peer is wrong about {self}: {output.decode(errors='replace')}")

    @staticmethod
    def parsed(text: str) -> Shape:
        match = re.fullmatch(r"(\d+)x(\d+)(?:-(\w+?))?(-thin)?", text)
        if not match or (match[3] or "BF16") not in BITS:
            raise argparse.ArgumentTypeError(f"not ROWSxCOLUMNS-DTYPE, of {', '.join(BITS)}")
        shape = Shape(int(match[1]), int(match[2]), match[3] or "BF16", bool(match[4]))
        # Fewer rows make no groups; shorter ones have no room for as many values.
        if shape.rows < 2 or shape.row_bytes < 8:
            raise argparse.ArgumentTypeError("at least 2 rows of 8 bytes")
        return shape


def checkpoint(folder: pathlib.Path, shape: Shape) -> pathlib.Path:
    """The weights file of that shape, made if it is not there."""
    place = folder / "models" / str(shape)
    path = place / "model.safetensors"
    header = shape.header()
    if path.exists() and path.stat().st_size == len(header) + shape.size:
        return path
    note(f"making {shape.words()}")
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": true}\n')
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "w+b") as file:
        file.write(header)
        if shape.thin:
            file.truncate(len(header) + shape.size)
            for row in range(shape.rows):
                os.pwrite(file.fileno(), struct.pack("<Q", row + 1),
                          len(header) + row * shape.row_bytes)
        else:
            for at in range(0, shape.size, PIECE):
                piece = hashlib.shake_128(f"{shape} {at // PIECE}".encode())
                file.write(piece.digest(min(PIECE, shape.size - at)))
        file.flush()
        length = 8 if shape.thin else shape.row_bytes
        for first, *others in shape.groups():
            value = os.pread(file.fileno(), length, len(header) + first * shape.row_bytes)
            for other in others:
                os.pwrite(file.fileno(), value, len(header) + other * shape.row_bytes)
    unfinished.rename(path)
    return path


def at_a_stretch(path: pathlib.Path) -> None:
    """Has the page cache hold a file as one leaves it there who reads it from the disk all at once."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    warm(path)


def page_by_page(path: pathlib.Path) -> None:
    """As one leaves it there who reads single pages: none lies in one piece with the next."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while file.read(mmap.PAGESIZE):
            pass


def warm(path: pathlib.Path) -> None:
    """Into the page cache, from which some machines take what lies there unread for a while."""
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(4 << 20)
        while file.readinto(buffer):
            pass


# --- nginx --------------------------------------------------------------------------------------

# Laid out as the Hub's addresses are, whatever the revision; the commit is what its own client asks
# for before it downloads.
NGINX = """
daemon off;
{user}
worker_processes {workers};
pid {place}/pid;
error_log {place}/error.log warn;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {place}/temp;
    proxy_temp_path {place}/temp;
    fastcgi_temp_path {place}/temp;
    uwsgi_temp_path {place}/temp;
    scgi_temp_path {place}/temp;
    default_type application/octet-stream;
    sendfile on;
    log_format wire '$status $body_bytes_sent';
    access_log {place}/access.log wire;
    add_header X-Repo-Commit 0123456789abcdef0123456789abcdef01234567;
{sites}
}}
"""

SITE = """
    server {{
        listen 127.0.0.1:{port}{ssl};
        {what}
        location ~ ^/([^/]+)/([^/]+)/resolve/[^/]+/(.+)$ {{ alias {root}/$1/$2/$3; }}
    }}
"""

RATE = 40 << 20

SITES = {
    "plain": "",
    # As nginx is without a word about it, and as Debian's nginx.conf has it.
    "bare": "sendfile off;",
    "debian": "tcp_nopush on;",
    "tls": "ssl_certificate {place}/leaf.pem; ssl_certificate_key {place}/leaf.key;",
    "throttled": f"limit_rate {RATE};",
}


def authority(place: pathlib.Path) -> None:
    """An authority and a certificate by it: clients refuse one that is both."""
    openssl = installed("openssl")
    if openssl is None:
        return
    (place / "leaf.ext").write_text(
        "subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = CA:FALSE\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in [
        f"req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2",
        f"req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost",
        "x509 -req -in leaf.csr -extfile leaf.ext -CA ca.pem -CAkey ca.key -CAcreateserial "
        + "-out leaf.pem -days 2",
    ]:
        subprocess.run([openssl, *command.split()], cwd=place, check=True, capture_output=True)


class Nginx:
    """One nginx that is a server for each of SITES, and its log."""

    def __init__(self, place: pathlib.Path, root: pathlib.Path, program: str) -> None:
        self.place = place
        place.mkdir()
        authority(place)
        sites = [name for name in SITES if name != "tls" or (place / "leaf.pem").exists()]
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in sites]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            self.ports = {name: each.getsockname()[1]
                          for name, each in zip(sites, sockets, strict=True)}
        text = NGINX.format(
            place=place, workers=min(4, os.cpu_count() or 1),
            # The workers of a server that root starts could not read a folder of root's own.
            user="user root;" if os.geteuid() == 0 else "",
            sites="".join(
                SITE.format(port=port, ssl=" ssl" if name == "tls" else "", root=root,
                            what=SITES[name].format(place=place))
                for name, port in self.ports.items()))
        (place / "nginx.conf").write_text(text)
        self.log = place / "access.log"
        self.command = [program, "-p", str(place), "-c", str(place / "nginx.conf")]

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        server = subprocess.Popen(self.command, cwd=self.place, stdin=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            for port in self.ports.values():
                limit = time.monotonic() + 10
                while not listens(port):
                    if server.poll() is not None or time.monotonic() > limit:
                        sys.exit(f"nginx does not start: {(self.place / 'error.log').read_text()}")
                    time.sleep(0.02)
            yield
        finally:
            server.terminate()
            server.wait()

    def at(self, site: str) -> str:
        return f"{'https' if site == 'tls' else 'http'}://127.0.0.1:{self.ports[site]}"

    def seen(self) -> int:
        """How far the log goes."""
        return self.log.stat().st_size if self.log.exists() else 0

    def since(self, seen: int) -> tuple[int, int]:
        """Requests and bytes of bodies that were logged since, once no more come: a line is written
        when its request has ended, a moment after the client has all."""
        while True:
            before = self.seen()
            time.sleep(0.05)
            if self.seen() == before:
                break
        with open(self.log, "rb") as log:
            log.seek(seen)
            lines = log.read().splitlines()
        return len(lines), sum(int(line.split()[1]) for line in lines)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# --- One run ------------------------------------------------------------------------------------


@dataclass
class Run:
    wall: float
    user: float
    system: float
    # In bytes.
    peak: int
    requests: int | None = None
    sent: int | None = None


@dataclass
class Command:
    """What is run, how the tables call it, and what its output must be."""

    name: str
    words: list[str]
    check: Callable[[bytes], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    # What the run leaves behind, removed before the next one.
    leaves: pathlib.Path | None = None
    # A peer that takes minutes is not run as often.
    most: int = 1_000_000
    runs: list[Run] = field(default_factory=list)


class World:
    """Where things are, and what this machine has."""

    def __init__(self, options: argparse.Namespace, place: pathlib.Path) -> None:
        self.options, self.place = options, place
        self.folder: pathlib.Path = options.folder.resolve()
        self.binary: pathlib.Path = options.binary.resolve()
        self.home = place / "home"
        self.home.mkdir()
        self.launcher = launcher()
        program = installed("nginx")
        (self.folder / "models").mkdir(parents=True, exist_ok=True)
        # Its addresses have two names before the revision.
        self.nginx = Nginx(place / "nginx", self.folder, program) if program else None

    def ours(self, shape: Shape, *options: str, site: str = "", name: str = "") -> Command:
        """The program, on a server's site or on the file."""
        model = str(checkpoint(self.folder, shape).parent)
        environment = {}
        if site and self.nginx:
            model = f"models/{shape}"
            options = ("--endpoint", self.nginx.at(site), *options)
            if site == "tls":
                environment["SSL_CERT_FILE"] = str(self.nginx.place / "ca.pem")
        words = [str(self.binary), *options, "--no-tokenizer", "-q", "--format", "json", model]
        # What the tables show of the options is those that differ.
        shown = " ".join(options[2 if site else 0:])
        return Command(name or f"**ours** {shown}".strip(), words, shape.reported, environment)

    def url(self, site: str, shape: Shape) -> str:
        assert self.nginx
        return f"{self.nginx.at(site)}/models/{shape}/resolve/main/model.safetensors"

    def shown(self, command: Command) -> str:
        """A command without what is of this machine alone."""
        text = shlex.join(command.words)
        for path, name in [(self.binary, "singularity-survey"), (self.folder, "FOLDER"),
                           (self.place, "TEMPORARY"), (HERE, "benches/peers"),
                           (self.options.python, "python3")]:
            text = text.replace(str(path), name)
        text = re.sub(r"(?<=127\.0\.0\.1:)\d+", "PORT", text)
        return re.sub(r"(?<![\w.:/-])/(?!dev/)\S*/", "", text)

    def run(self, command: Command) -> Run:
        if command.leaves:
            shutil.rmtree(command.leaves, ignore_errors=True)
        keep = {name: os.environ[name] for name in ("TMPDIR", "LD_LIBRARY_PATH")
                if name in os.environ}
        environment = keep | {"PATH": PLACES, "HOME": str(self.home), "HF_HOME": str(self.home)}
        output, peak = self.place / "output", self.place / "peak"
        seen = self.nginx.seen() if self.nginx else 0
        before = [*self.launcher, str(peak)] if self.launcher else []
        # What is not looked at is not written either: `cat` would measure the disk.
        with (open(output if command.check else os.devnull, "wb") as out,
              open(self.place / "errors", "wb") as errors):
            began = time.perf_counter()
            child = subprocess.Popen(before + command.words, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=errors, cwd=self.home, start_new_session=True,
                                     env=environment | command.environment)
            # What it has started ends with it.
            limit = threading.Timer(PATIENCE, os.killpg, [child.pid, signal.SIGKILL])
            limit.start()
            try:
                _, status, usage = os.wait4(child.pid, 0)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
            finally:
                limit.cancel()
            wall = time.perf_counter() - began
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said = (self.place / "errors").read_text(errors="replace")[-2000:]
            sys.exit(f"{self.shown(command)}\nended with {child.returncode}: {said}")
        kilobytes = usage.ru_maxrss
        if self.launcher:
            kilobytes = int(peak.read_text().split()[-1])
        run = Run(wall, usage.ru_utime, usage.ru_stime, kilobytes * 1024)
        if self.nginx:
            run.requests, run.sent = self.nginx.since(seen)
        if command.check:
            command.check(output.read_bytes())
        return run


def launcher() -> list[str] | None:
    """A small process between this one and what is measured. A process's peak, as the system tells
    it, is never below that of the process it was forked from, and this one takes more than most of
    what it starts."""
    program = installed("time")
    if program is None:
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return [program, "-f", "%M", "-o"] if "GNU" in version.stdout + version.stderr else None


# --- Tables -------------------------------------------------------------------------------------


def rounds(world: World, commands: list[Command], most: int, file: pathlib.Path) -> None:
    """Rounds of one run each. Where there are several, one before them is for warmth."""
    count = max(1, min(world.options.runs, most))
    for at in range(-1 if count > 1 else 0, count):
        warm(file)
        for command in commands:
            # Slow ones are in the first rounds alone.
            if at >= command.most or (at < 0 and command.most < count):
                continue
            run = world.run(command)
            note(f"  {at + 1}/{count} {plain(command.name)}: {run.wall:.3f} s")
            if at >= 0:
                command.runs.append(run)


def plain(name: str) -> str:
    return name.replace("*", "").replace("`", "")


def table(world: World, title: str, commands: list[Command], yardstick: Command | None) -> None:
    wire = any(run.requests for command in commands for run in command.runs)
    print(f"\n### {title}\n")
    heads = ["", "wall, s", "least to most", "user", "sys", "peak, MB"]
    heads += ["requests", "MB sent"] if wire else []
    heads += [f"wall / {plain(yardstick.name)}", "CPU / its CPU"] if yardstick else []
    heads += ["runs"]
    print(f"| {' | '.join(heads)} |")
    print(f"|{'---|' * len(heads)}")
    for command in commands:
        runs = command.runs
        walls = [run.wall for run in runs]

        def middle(of: Callable[[Run], float], runs: list[Run] = runs) -> float:
            return statistics.median(of(run) for run in runs)

        cells = [command.name, f"{statistics.median(walls):.3f}",
                 f"{min(walls):.3f} to {max(walls):.3f}", f"{middle(lambda r: r.user):.2f}",
                 f"{middle(lambda r: r.system):.2f}", f"{middle(lambda r: r.peak) / 1e6:.1f}"]
        if wire:
            cells += [f"{middle(lambda r: r.requests or 0):.0f}",
                      f"{middle(lambda r: r.sent or 0) / 1e6:.2f}"]
        if yardstick:
            # Pairs are of one round.
            pairs = list(zip(runs, yardstick.runs, strict=False))
            cpu = [(a.user + a.system) / max(b.user + b.system, 1e-3) for a, b in pairs]
            cells += [f"{statistics.median(a.wall / b.wall for a, b in pairs):.2f}",
                      f"{statistics.median(cpu):.2f}"]
        print(f"| {' | '.join([*cells, str(len(runs))])} |")
    print("\n```text")
    for command in commands:
        print(world.shown(command))
    print("```", flush=True)


def skipped(what: str, why: str) -> None:
    print(f"\nskipped: {what}: {why}", flush=True)


# --- Series -------------------------------------------------------------------------------------


def curl(world: World, site: str, shape: Shape, *more: str) -> Command | None:
    program = installed("curl")
    if program is None:
        skipped("curl", "it is not installed")
        return None
    words = [program, "-s", "-o", os.devnull, *more, "-r", shape.range(), world.url(site, shape)]
    return Command("curl to nowhere", words)


def served(world: World, site: str, series: str) -> bool:
    if world.nginx is None:
        skipped(series, "no nginx")
    elif site not in world.nginx.ports:
        skipped(series, "no openssl, so no certificate")
    else:
        return True
    return False


def network(world: World) -> None:
    over(world, "plain", "network", "Plain HTTP")


def servers(world: World) -> None:
    first = world.options.shape[:1]
    over(world, "debian", "servers", "Plain HTTP, sendfile and tcp_nopush on", first)
    over(world, "bare", "servers", "Plain HTTP, sendfile off", first)


def tls(world: World) -> None:
    over(world, "tls", "tls", "TLS")


def over(world: World, site: str, series: str, title: str, shapes: list[Shape] | None = None) -> None:
    if not served(world, site, series):
        return
    for shape in shapes or world.options.shape:
        file = checkpoint(world.folder, shape)
        assert world.nginx
        trust = ["--cacert", str(world.nginx.place / "ca.pem")] if site == "tls" else []
        peer = curl(world, site, shape, *trust)
        commands = [world.ours(shape, "--connections", n, site=site) for n in ("8", "1")]
        rounds(world, [*commands, *([peer] if peer else [])], 1000, file)
        table(world, f"{title}: {shape.words()}", [*commands, *([peer] if peer else [])], peer)


def throttled(world: World) -> None:
    if not served(world, "throttled", "throttled"):
        return
    shape = world.options.shape[0]
    file = checkpoint(world.folder, shape)
    start = len(shape.header())
    # As many bytes for each, all at a time; one shell waits for them.
    program = installed("curl")
    cuts = [start + shape.size * part // 8 for part in range(9)]
    ranges = " ".join(f"{a}-{b - 1}" for a, b in itertools.pairwise(cuts))
    script = (f"for range in {ranges}; do {program} -s -o {os.devnull} -r $range "
              f"{world.url('throttled', shape)} & done; wait")
    eight = world.ours(shape, "--connections", "8", site="throttled")
    one = world.ours(shape, "--connections", "1", site="throttled")
    one.most = 1
    peer = Command("eight curls at once", ["sh", "-c", script])
    commands = [eight, one, *([peer] if program else [])]
    rounds(world, commands, 5, file)
    title = f"{RATE >> 20} MiB/s for each connection: {shape.words()}"
    table(world, title, commands, peer if program else None)


def disk(world: World) -> None:
    """In two states of the page cache: as one who reads all at a stretch leaves a file there, and as one
    does who reads it page by page."""
    b3sum = str(world.options.b3sum or installed("b3sum") or "")
    if not b3sum:
        skipped("b3sum", "it is not installed")
    states = [("", at_a_stretch), (", cached page by page", page_by_page)]
    for shape, (state, bring) in itertools.product(world.options.shape, states):
        if not hasattr(os, "posix_fadvise"):
            skipped(f"a file{state}", "the system cannot be told")
            continue
        file = checkpoint(world.folder, shape)
        bring(file)
        for threads in ("1", "2"):
            commands = [world.ours(shape, "--threads", threads)]
            yardstick = None
            if b3sum:
                yardstick = Command("b3sum", [b3sum, "--num-threads", threads, str(file)])
                commands.append(yardstick)
            if threads == "1":
                commands += [world.ours(shape, "--probe", "--threads", n) for n in ("1", "2")]
            # These have one thread in any case.
            for name, most in [("sha256sum", 3), ("cat", 1000)] if threads == "1" else []:
                if program := installed(name):
                    commands.append(Command(name, [program, str(file)], most=most))
            rounds(world, commands, 1000, file)
            many = "2 threads" if threads == "2" else "1 thread"
            table(world, f"A local file{state}, {many}: {shape.words()}", commands, yardstick)


def python(world: World) -> None:
    """What one would write in Python, on the same file; and the Hub's own client from nginx, which is
    the download alone."""
    shape = world.options.shape[0]
    file = checkpoint(world.folder, shape)
    interpreter = str(world.options.python)
    ours = world.ours(shape)
    commands, names = [ours], {"numpy": "numpy, a dict over the rows' bytes",
                               "torch": "`torch.unique(dim=0)`"}
    for module, name in names.items():
        if has(interpreter, module):
            script = HERE / ("numpy_rows.py" if module == "numpy" else "torch_unique.py")
            most = 1 if module == "torch" else 1_000_000
            words = [interpreter, str(script), str(file)]
            commands.append(Command(name, words, shape.counted, most=most))
        else:
            skipped(name, f"{module} is not installed")
    rounds(world, commands, 3, file)
    table(world, f"Python, a local file: {shape.words()}", commands, ours)
    if not has(interpreter, "huggingface_hub"):
        skipped("`huggingface_hub`", "it is not installed")
        return
    if not served(world, "plain", "`huggingface_hub`"):
        return
    assert world.nginx
    target = world.place / "downloaded"
    ours = world.ours(shape, site="plain")
    # Its own store of pieces is no part of a plain download.
    peer = Command(
        "`huggingface_hub`, plain download",
        [interpreter, str(HERE / "hub_download.py"), f"models/{shape}", str(target)],
        environment={"HF_ENDPOINT": world.nginx.at("plain"), "HF_HUB_DISABLE_XET": "1",
                     "HF_HUB_DISABLE_TELEMETRY": "1"}, leaves=target)
    rounds(world, [ours, peer], 3, file)
    table(world, f"The Hub's own client, plain HTTP: {shape.words()}", [ours, peer], peer)
    shutil.rmtree(target, ignore_errors=True)


def has(interpreter: str, module: str) -> bool:
    done = subprocess.run([interpreter, "-c", f"import {module}"], capture_output=True, check=False)
    return done.returncode == 0


WIDTHS = [Shape(151_936, 512), Shape(151_936, 2_048), Shape(151_936, 16_384, thin=True)]
COUNTS = [Shape(rows, 32) for rows in (151_936, 1_000_000, 10_000_000)]


def memory(world: World) -> None:
    """What grows with the width of rows, which nothing should, and with their number."""
    if not served(world, "plain", "memory"):
        return
    for title, shapes in [("Peak memory by the width of rows, 8 connections", WIDTHS),
                          ("Peak memory by the number of rows of 64 B, 8 connections", COUNTS)]:
        commands = []
        for shape in shapes:
            name = f"{shape.rows:,} rows of {shape.row_bytes:,} B"
            command = world.ours(shape, "--connections", "8", site="plain", name=name)
            rounds(world, [command], 5, checkpoint(world.folder, shape))
            commands.append(command)
        table(world, title, commands, None)
        if shapes is COUNTS:
            small, large = commands[0], commands[-1]
            grown = (statistics.median(run.peak for run in large.runs)
                     - statistics.median(run.peak for run in small.runs))
            rows = shapes[-1].rows - shapes[0].rows
            print(f"\nGrowth from {shapes[0].rows:,} to {shapes[-1].rows:,} rows: "
                  f"**{grown / rows:.1f} bytes a row**, members of groups in the report included.")


def scale(world: World) -> None:
    """More than memory holds, made as it is read; each beside 622 MB, of rows as wide."""
    for row_bytes in (16384, 2048):
        for gigabytes in (0.622, world.options.gigabytes):
            cargo("soak", [str(gigabytes), str(row_bytes), "calm"],
                  f"{gigabytes:g} GB of rows of {row_bytes:,} B, streamed, nothing stored")


def parts(world: World) -> None:
    del world
    cargo("parts", [], "Parts")


def cargo(bench: str, words: list[str], title: str) -> None:
    program = installed("cargo")
    if program is None:
        skipped(bench, "no cargo")
        return
    note(f"  {title}")
    command = ["bench", "--quiet", "--bench", bench, "--", *words]
    done = subprocess.run([program, *command], cwd=REPOSITORY, text=True, check=False,
                          stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"cargo {' '.join(command)} failed")
    text = done.stdout.strip()
    fenced = text if text.startswith("|") else f"```text\n{text}\n```"
    print(f"\n### {title}\n\n{fenced}\n\n```text\ncargo {' '.join(command)}\n```", flush=True)


SERIES: dict[str, Callable[[World], None]] = {
    "network": network, "servers": servers, "tls": tls, "throttled": throttled, "disk": disk, "python": python,
    "memory": memory, "scale": scale, "parts": parts,
}


# --- The page -----------------------------------------------------------------------------------


def said(*command: str) -> str:
    """The first line that a command prints, on either output."""
    program = installed(command[0]) or command[0]
    with contextlib.suppress(OSError):
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False,
                              cwd=REPOSITORY)
        if done.returncode == 0:
            return (done.stdout + done.stderr).strip().partition("\n")[0]
    return ""


def machine(world: World) -> None:
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        told = dict(re.findall(r"(.+?)\s*: (.+)", pathlib.Path("/proc/cpuinfo").read_text()))
        # Hosts of virtual machines may say no more of a processor's name than who made it.
        if {"model name", "cpu family", "model"} <= told.keys():
            cpu = "{model name} (family {cpu family}, model {model})".format_map(told)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    commit = said("git", "rev-parse", "--short", "HEAD") or "unknown"
    # The tables themselves may be what is not committed yet.
    dirty = said("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    interpreter = str(world.options.python)
    versions = [said("nginx", "-v").replace("nginx version: ", ""),
                " ".join(said("openssl", "version").split()[:2]),
                " ".join(said("curl", "--version").split()[:2]),
                said(str(world.options.b3sum or "b3sum"), "--version"),
                said("sha256sum", "--version"), said(interpreter, "--version")]
    for module in ("numpy", "torch", "huggingface_hub"):
        version = said(interpreter, "-c", f"import {module}; print({module}.__version__)")
        versions += [f"{module} {version}"] if version else []
    peak = "GNU time" if world.launcher else "wait4, never below this script's own"
    words = [re.sub(r"(?<!\S)/\S*/", "", word) for word in sys.argv[1:]]
    if "--python" in words:
        words[words.index("--python") + 1] = "python3"
    sources = [path.stat().st_mtime for path in (REPOSITORY / "src").rglob("*.rs")]
    old = max(sources, default=0.0) > world.binary.stat().st_mtime
    rows = {
        "machine": f"{os.cpu_count()} cores, {cpu}, {pages / 2**30:.0f} GiB, "
                   f"{platform.system()} {platform.release()}",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
        "commit": commit + (" and changes that are not committed" if dirty else ""),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "program": said(str(world.binary), "--version") + (" (older than its sources)" if old else ""),
        "peers": ", ".join(version for version in versions if version),
        "peak memory by": peak,
        "command": f"`python3 benches/peers/run.py {shlex.join(words)}`",
    }
    print("| | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    sys.stdout.flush()


BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


def written(path: pathlib.Path, results: str) -> None:
    """Puts results in place of those in the document."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{path} has no place for results")
    path.write_text(f"{before}{BEGIN}\n{results}\n{END}{after}", encoding="utf-8")


class Twice:
    """Standard output, and a copy of it."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def write(self, text: str) -> int:
        self.text.append(text)
        return sys.__stdout__.write(text) if sys.__stdout__ else len(text)

    def flush(self) -> None:
        if sys.__stdout__:
            sys.__stdout__.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the built program")
    parser.add_argument("--rows", type=int, default=151_936, help="of the first shape (151936)")
    parser.add_argument("--columns", type=int, default=2_048, help="of the first shape (2048)")
    parser.add_argument("--dtype", choices=BITS, default="BF16", help="of the first shape (BF16)")
    parser.add_argument("--shape", type=Shape.parsed, action="append", default=[],
                        metavar="ROWSxCOLUMNS-DTYPE",
                        help="another shape, for the series network, tls and disk; repeatable")
    parser.add_argument("--runs", type=int, default=11,
                        help="rounds (11); slow series have fewer")
    parser.add_argument("--only", choices=SERIES, action="append", metavar="SERIES",
                        help=f"this series alone; repeatable: {', '.join(SERIES)}")
    parser.add_argument("--gigabytes", type=float, default=20, help="of the series scale (20)")
    parser.add_argument("--folder", type=pathlib.Path, default=REPOSITORY / "target" / "peers",
                        help="where checkpoints are kept for the next time; 3 GB in all "
                             "(target/peers)")
    parser.add_argument("--python", default=sys.executable,
                        help="the interpreter of the Python peers (this one)")
    parser.add_argument("--b3sum", type=pathlib.Path, help="where b3sum is, if not on the path")
    parser.add_argument("--write", type=pathlib.Path, metavar="DOCUMENT",
                        help="puts the tables into docs/benchmarks.md too, in place of its own")
    options = parser.parse_args()
    first = Shape.parsed(f"{options.rows}x{options.columns}-{options.dtype}")
    options.shape.insert(0, first)
    if not options.binary.is_file():
        parser.error(f"there is no {options.binary}: cargo build --release")
    # Ended from outside, servers end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    copy = Twice()
    with (tempfile.TemporaryDirectory(prefix="peers-") as place,
          contextlib.redirect_stdout(copy)):
        world = World(options, pathlib.Path(place))
        machine(world)
        with world.nginx.serving() if world.nginx else contextlib.nullcontext():
            for name in options.only or SERIES:
                note(name)
                SERIES[name](world)
        print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}")
    if options.write:
        written(options.write, "".join(copy.text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
