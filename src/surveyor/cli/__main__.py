"""`python -m surveyor.cli`."""

from surveyor.cli.app import app

app()
