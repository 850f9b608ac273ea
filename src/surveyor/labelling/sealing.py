"""Sealed frames: extended XYZ that tells a torn write from damage, and whose whole frames can be found again.

    <number of atoms>
    <comment> surveyor_seal=<bytes>.<head>.<whole>
    <one line per atom>

| part  | meaning                                                                       |
|-------|-------------------------------------------------------------------------------|
| bytes | length of the atoms' lines                                                    |
| head  | SHA-256 of number, comment and length, 8 digits: the announced length is true |
| whole | SHA-256 of number, comment and atoms' lines, 16 digits                        |

A write that was interrupted leaves a true prefix of one such frame, or zeros where the file system had not
written yet. Whatever else does not fit its seal was changed by something else, and is nobody's to cut.
Frames of the first edition have `surveyor_checksum=<whole>` instead, without length.
"""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from ase import Atoms
from ase.io import iread, write

from surveyor.structures.labels import labels_of

_SEAL = re.compile(rb" surveyor_seal=(\d+)\.([0-9a-f]{8})\.([0-9a-f]{16})$")
_FIRST_EDITION = re.compile(rb" surveyor_checksum=([0-9a-f]{16})$")
_START = re.compile(
    rb"^ *\d+\n[^\n]* surveyor_(?:seal=\d+\.[0-9a-f]{8}\.|checksum=)[0-9a-f]{16}\n", re.MULTILINE
)
_KEYS = ("surveyor_seal", "surveyor_checksum")
_UNPACK: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
}
MAX_ATOMS = 10**8
"""Announced by a frame; more is damage."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What a journal holds: atoms of the whole frames from the beginning on, and the bytes that they take.

    The `rest` behind them is `torn` where it is what an interrupted write leaves, a true prefix of one frame;
    `ended`: the last whole frame has its line end, which a write or an editor may drop.
    """

    atoms: list[Atoms]
    end: int
    rest: bytes
    torn: bool
    ended: bool = True


def seal(atoms: Atoms) -> bytes:
    """The structure as one sealed frame."""
    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz")
    count, comment, lines = buffer.getvalue().encode().split(b"\n", 2)
    head, whole = _digests(count, comment, lines)
    return b"%b\n%b surveyor_seal=%d.%b.%b\n%b" % (count, comment, len(lines), head, whole, lines)


def unseal(frame: bytes) -> Atoms | None:
    """The structure of a frame whose seal holds, otherwise None."""
    content = _opened(frame)
    if content is None:
        return None
    atoms = next(iter(iread(io.StringIO(content.decode()), format="extxyz")))
    labels_of(atoms)
    assert isinstance(atoms, Atoms)  # noqa: S101
    return atoms


def scan(file: IO[bytes]) -> Scan:
    """Read whole frames from the beginning on, and judge what stands behind them."""
    found: list[Atoms] = []
    end = 0
    while (atoms := unseal(frame := _next_frame(file))) is not None:
        found.append(atoms)
        end += len(frame)
        file.seek(end)
    file.seek(end)
    rest = file.read()
    if rest and (last := unseal(rest + b"\n")) is not None:
        return Scan([*found, last], end + len(rest), b"", torn=True, ended=False)
    return Scan(found, end, rest, _is_torn(rest))


def recover(content: bytes) -> list[bytes]:
    """Every frame whose seal holds, in order; what is known to be undone is undone first.

    That is: compression, UTF-16 and UTF-32, and other line ends; and a journal that another program read and
    wrote again with ASE, where the frame comes out of it letter by letter.
    """
    plain = _plain(content)
    found: dict[bytes, None] = {}
    position = 0
    stream = io.BytesIO(plain + b"\n")  # the last line end may be gone
    while match := _START.search(plain, position):
        stream.seek(match.start())
        frame = _next_frame(stream)
        if unseal(frame) is None:
            position = match.start() + 1
        else:
            found[frame] = None
            position = match.start() + len(frame)
    return list(found) or list(dict.fromkeys(_rewritten(plain)))


def why_unreadable(content: bytes) -> str:
    """What probably happened to a journal that does not fit its seals."""
    if any(content.startswith(magic) for magic in _UNPACK):
        return "it is compressed now"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:4]:
        return "it is UTF-16 or UTF-32 text now"
    if content[:3] == b"\xef\xbb\xbf":
        return "it begins with a byte order mark now"
    if b"\r" in content:
        return "its line ends were changed"
    if b" surveyor_seal=" in content and b" pbc=" in content.partition(b" surveyor_seal=")[2].split(b"\n")[0]:
        return "another program read it and wrote it again"
    return "bytes of it were changed, lost or added"


def _digests(count: bytes, comment: bytes, lines: bytes) -> tuple[bytes, bytes]:
    head = hashlib.sha256(b"%b\n%b\n%d" % (count, comment, len(lines)))
    whole = hashlib.sha256(b"\n".join((count, comment, lines)))
    return head.hexdigest()[:8].encode(), whole.hexdigest()[:16].encode()


def _opened(frame: bytes) -> bytes | None:
    """The frame without its seal, if that holds."""
    parts = frame.split(b"\n", 2)
    if len(parts) < 3:
        return None
    count, sealed, lines = parts
    for pattern in (_SEAL, _FIRST_EDITION):
        if match := pattern.search(sealed):
            comment = sealed[: match.start()]
            head, whole = _digests(count, comment, lines)
            true = (str(len(lines)).encode(), head, whole) if pattern is _SEAL else (whole,)
            return b"%b\n%b\n%b" % (count, comment, lines) if match.groups() == true else None
    return None


def _next_frame(file: IO[bytes]) -> bytes:
    """The bytes of the next frame as far as they are there; empty where none begins."""
    count = file.readline()
    if not re.fullmatch(rb" *\d{1,9}\n", count) or int(count) > MAX_ATOMS:
        return b""
    comment = file.readline()
    if match := _SEAL.search(comment.rstrip(b"\n")):
        return count + comment + file.read(int(match[1]))
    return count + comment + b"".join(file.readline() for _ in range(int(count)))


def _is_torn(rest: bytes) -> bool:
    """Whether these bytes are a true prefix of one sealed frame, zeros behind them aside."""
    written = rest.rstrip(b"\0")
    count, first, behind = written.partition(b"\n")
    if not re.fullmatch(rb" *\d{0,9}", count) or (first and not count.strip()):
        return False
    sealed, second, lines = behind.partition(b"\n")
    if not second:
        # A comment without its end, unless it is the seal's own line end that is gone.
        return re.search(rb" surveyor_seal=\d+\.[0-9a-f]{8}\.[0-9a-f]{16}.", sealed, re.DOTALL) is None
    match = _SEAL.search(sealed)
    if match is None:
        return False
    head = hashlib.sha256(b"%b\n%b\n%b" % (count, sealed[: match.start()], match[1])).hexdigest()[:8].encode()
    if head != match[2]:
        return False
    # All lines are of one width: where bytes are lost in the middle, one of them is not.
    *whole, part = lines.split(b"\n")
    width = int(match[1]) // max(1, int(count))
    return len(whole) < int(count) and {len(line) + 1 for line in whole} <= {width} and len(part) < width


def _plain(content: bytes) -> bytes:
    """The text of a journal that was compressed, re-encoded, or given other line ends."""
    for magic, unpack in _UNPACK.items():
        if content.startswith(magic):
            content = _unpacked(content, unpack())
    # A journal is ASCII: what UTF-16 and UTF-32 add are zeros and a byte order mark.
    content = content.replace(b"\0", b"")
    for mark in (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"):
        content = content.removeprefix(mark)
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _unpacked(content: bytes, decompressor: Any) -> bytes:
    """As much as comes out of a compressed file that may be damaged."""
    found = []
    with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
        for begin in range(0, len(content), 1024):
            found.append(decompressor.decompress(content[begin : begin + 1024]))
    return b"".join(found)


def _rewritten(plain: bytes) -> Iterator[bytes]:
    """Frames that ASE read and wrote again: sealed anew where they come out as they were sealed."""
    try:
        for atoms in iread(io.StringIO(plain.decode(errors="replace")), index=":", format="extxyz"):
            told = [str(atoms.info.pop(key)) for key in _KEYS if key in atoms.info]
            frame = seal(atoms)
            match = _SEAL.search(frame.split(b"\n", 2)[1])
            if match and told and told[0].rpartition(".")[2].encode() == match[3]:
                yield frame
    except Exception:  # whatever ASE raises: no more frames can be told apart
        return
