"""`python -m sandbox` is `trekkpaalegg-sandbox`."""

from sandbox.cli.main import main

if __name__ == "__main__":
    main()
