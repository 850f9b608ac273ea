"""Opening a file that a user named: what it is, how it is packed, its encoding, and how much may come out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from surveyor.errors import StructureError

FREE = 2**29
RATIO = 200
"""More than `FREE` bytes from an archive, and more than `RATIO` times its size, are a bomb: the text of
structures shrinks five- to twentyfold."""

HEAD = 4096

_PACKED: dict[str, tuple[bytes, Callable[..., IO[bytes]], str]] = {
    ".gz": (b"\x1f\x8b", cast(Callable[..., IO[bytes]], gzip.open), "gzip"),
    ".xz": (b"\xfd7zXZ\0", cast(Callable[..., IO[bytes]], lzma.open), "xz"),
    ".bz2": (b"BZh", cast(Callable[..., IO[bytes]], bz2.open), "bzip2"),
}
_OTHER_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x1f\x9d": "compressed with compress (.Z)",
}
_MARKS = (  # the longer first: the mark of UTF-32 begins with that of UTF-16
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95")

DAMAGES = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
"""What archives that are cut short or damaged raise."""


def check_file(path: Path) -> None:
    """Raise StructureError unless it is an ordinary file: pipes, sockets and devices may never end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise StructureError(
            f"no such file: {path}",
            expected="a file of structures that ASE reads (extxyz, xyz, traj, db, cif, …)",
            todo=f"check the path; the current folder is {Path.cwd()}",
        ) from None
    except (OSError, ValueError) as error:
        raise StructureError(
            f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}",
            expected="a file of structures",
            todo="check the path and its permissions",
        ) from error
    if stat.S_ISDIR(mode):
        raise StructureError(f"{path} is a folder", expected="a file of structures")
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))
        kind = next((name for is_kind, name in kinds if is_kind(mode)), "a device")
        raise StructureError(
            f"{path} is {kind}, not a file",
            expected="a file of structures",
            todo="write its content to a file first",
        )


def packing(path: Path) -> str | None:
    """The suffix that says how a file is compressed, lower case; None where none does."""
    suffix = path.suffix.lower()
    return suffix if suffix in _PACKED else None


def inner_name(path: Path) -> str:
    """The name without the suffix of its compression."""
    return path.stem if packing(path) else path.name


def open_bytes(path: Path) -> io.BufferedReader:
    """The content of a file, unpacked where its name says that it is compressed.

    Raises:
        StructureError: name and content contradict each other, or it is another kind of archive or a pickle;
            while reading: an archive bomb.
    """
    suffix = packing(path)
    raw = path.open("rb")
    if suffix is None:
        stream = raw
    else:
        magic, opener, name = _PACKED[suffix]
        head = raw.peek(HEAD)
        if head and not head.startswith(magic):
            raw.close()
            raise StructureError(
                f"{path.name}: named {suffix}, but its content is not {name}: damaged, or never compressed",
                expected=f"{name} data",
                todo="copy the file again, or give it the name that it deserves",
            )
        raw.close()
        stream = io.BufferedReader(cast(io.RawIOBase, _Bounded(opener(path, "rb"), path)), 2**16)
    try:
        _check_head(stream.peek(HEAD)[:HEAD], path)
    except BaseException:
        stream.close()
        raise
    return stream


def _check_head(head: bytes, path: Path) -> None:
    todo = "unpack it first"
    found = next(
        (f"compressed with {name}" for magic, _, name in _PACKED.values() if head.startswith(magic)), None
    )
    if found and packing(path):
        found += " twice, or within another archive"
    elif found:
        todo = "unpack it, or add the suffix of its compression to its name"
    found = found or next((name for magic, name in _OTHER_ARCHIVES.items() if head.startswith(magic)), None)
    if found is None and head[257:262] == b"ustar":
        found = "a tar archive"
    if found is None and head.startswith(_PICKLES):
        found, todo = "a Python pickle, which is never opened as structures", "write the structures as extxyz"
    if found is not None:
        raise StructureError(
            f"{path.name} is {found}",
            expected="a file of structures, plain or as .gz, .xz or .bz2",
            todo=todo,
        )


class _Bounded(io.RawIOBase):
    """What comes out of an archive, up to where it must be a bomb."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream = stream
        self._path = path
        self._most = max(FREE, RATIO * path.stat().st_size)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._read += len(content)
        if self._read > self._most:
            raise StructureError(
                f"{self._path.name}: unpacks to more than {self._most:,} bytes, {RATIO} times its size",
                expected="an archive of structures",
                todo="if that is what it holds, unpack it first",
            )
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


def encoding_of(stream: io.BufferedReader) -> str | None:
    """The encoding that a byte order mark at the beginning names, or None."""
    head = stream.peek(4)
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def open_text(path: Path) -> io.TextIOWrapper:
    """The text of a file, unpacked, in UTF-8 or what its byte order mark says.

    Raises:
        StructureError: as `open_bytes`, or UTF-16 without a byte order mark, or no text at all.
    """
    stream = open_bytes(path)
    encoding = encoding_of(stream)
    if encoding is None and b"\0" in stream.peek(HEAD)[:HEAD]:
        stream.close()
        raise StructureError(
            f"{path.name}: holds zero bytes: UTF-16 without a byte order mark, or no text",
            expected="text in UTF-8",
            todo=f"if it is text: iconv -f utf-16le -t utf-8 {path.name} > converted-{path.name}",
        )
    return io.TextIOWrapper(stream, encoding=encoding or "utf-8", newline=None)


def empty(path: Path) -> StructureError:
    """The error about a file in which nothing is."""
    return StructureError(
        f"{path} holds no structure", expected="at least one frame", todo="check how the file was written"
    )


def damage(path: Path, where: str, error: Exception) -> StructureError:
    """The error that tells a user why a file of structures could not be read on."""
    if isinstance(error, UnicodeError):
        return _not_utf8(path, error)
    if isinstance(error, MemoryError):
        return StructureError(f"{where}: it needs more memory than there is", expected="a smaller file")
    if isinstance(error, DAMAGES) or packing(path):
        return StructureError(
            f"{where}: damaged or cut short ({error})", expected="a whole file", todo="copy the file again"
        )
    reason = getattr(error, "strerror", None) or error
    return StructureError(
        f"{where}: cannot be read ({reason})",
        expected="a file that can be read",
        todo="check its permissions",
    )


def _not_utf8(path: Path, error: UnicodeError) -> StructureError:
    try:
        with open_bytes(path) as stream:
            encoding = encoding_of(stream)
            line, byte = next(
                (number, text[problem.start])
                for number, text in enumerate(stream, 1)
                if encoding is None and (problem := _undecodable(text)) is not None
            )
    except (StopIteration, OSError, StructureError, *DAMAGES):
        return StructureError(
            f"{path.name}: damaged text ({error})",
            expected="text in UTF-8, or in the encoding of its byte order mark",
            todo="copy the file again, or convert it to UTF-8",
        )
    return StructureError(
        f"{path.name}, line {line}: byte 0x{byte:02x} is not UTF-8 (text in Latin-1 or another encoding?)",
        expected="text in UTF-8",
        todo=f"if it is Latin-1: iconv -f latin1 -t utf-8 {path.name} > converted-{path.name}",
    )


def _undecodable(text: bytes) -> UnicodeDecodeError | None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as problem:
        return problem
    return None
