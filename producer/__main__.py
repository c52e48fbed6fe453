"""`python -m producer`: the same as the console script."""

from producer.cli.main import main

if __name__ == "__main__":
    main()
