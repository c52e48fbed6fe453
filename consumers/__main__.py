"""`python -m consumers`: the same as the console script."""

from consumers.cli.main import main

if __name__ == "__main__":
    main()
