"""The command line: a short function per command, nothing else."""

from surveyor.cli.app import app

__all__ = ["app"]
