"""`python -m sandbox`, and the console script `trekkpaalegg-sandbox`."""

import sys

from trekkpaalegg.cli import extra_hint


def main() -> None:
    """Run the program, or say which extra installs what it needs."""
    try:
        from sandbox.cli.main import main as run  # noqa: PLC0415 - needs the packages of an extra
    except ModuleNotFoundError as error:
        sys.exit(extra_hint("trekkpaalegg-sandbox", error.name or "a package", "sandbox"))
    run()


if __name__ == "__main__":
    main()
