"""Which Freshet this is."""

from importlib.metadata import PackageNotFoundError, version


def freshet_version() -> str:
    """Of the installed package; "unknown" where it was not installed."""
    try:
        return version("freshet")
    except PackageNotFoundError:
        return "unknown"
