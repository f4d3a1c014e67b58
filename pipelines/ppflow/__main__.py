"""`python -m ppflow` is the command `ppflow`."""

from ppflow.cli import main

if __name__ == "__main__":
    main()
