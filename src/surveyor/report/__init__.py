"""A campaign folder as one page; reading only."""

from surveyor.report.page import write_report

__all__ = ["write_report"]
