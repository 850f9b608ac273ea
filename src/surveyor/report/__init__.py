"""A campaign folder as one page, or as figures; reading only."""

from surveyor.report.contents import read_contents
from surveyor.report.ending import ending
from surveyor.report.figures import figures
from surveyor.report.page import write_report

__all__ = ["ending", "figures", "read_contents", "write_report"]
