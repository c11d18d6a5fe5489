"""What holds for every test: one thread a process, and no skip that hides a server.

A test that needs a server and finds none skips with a reason that names the server. Where
`.ci/run` sees the server answer, such a skip is a failure.
"""

import os
from collections.abc import Generator

import pytest

# Set before any test imports NumPy, torch or FAISS: their thread pools read these once.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--required-services",
        default="",
        help="comma-separated names of servers that answer, e.g. redis,nats: no test may skip them",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        for service in filter(None, item.config.getoption("--required-services").split(",")):
            if service in reason.lower():
                report.outcome = "failed"
                report.longrepr = f"{service} answers, yet: {reason}"
    return report
